/* SPDX-License-Identifier: MIT */
// The value of record number n: four hexadecimal digits, then bytes that follow from n. Every
// second one has a key, every third one a header, so that all parts of a record are held to it.
#include "lib/faults_oracle.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ORACLE_COMPLAINTS_SHOWN = 40 };

// ---- complaints

void oracle_complain(struct oracle *o, const char *format, ...) {
    if (o->complaints++ >= ORACLE_COMPLAINTS_SHOWN)
        return;
    char text[512];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    char fault[192];
    if (o->mem_fault)
        (void)snprintf(fault, sizeof fault, "allocation %ld", o->at);
    else
        (void)snprintf(fault, sizeof fault, "%s", o->os.fault[0] ? o->os.fault : "no fault");
    fprintf(stderr, "%s, case %ld (%s): %s\n", o->family, o->at, fault, text);
}

long oracle_faults(const struct oracle *o) {
    if (!o->mem_fault)
        return o->os.faults;
    return o->mem.asked >= o->at ? 1 : 0;
}

static int oracle_code_of(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return LEAT_ENOSPC;
    case ENOMEM:
        return LEAT_ENOMEM;
    case EACCES:
        return LEAT_EACCESS;
    default:
        return LEAT_EIO;
    }
}

// What was lost can not be got back before the store is closed: a sync, or the cutting of a note.
static bool oracle_may_poison(const struct oracle *o) {
    return (o->os.fault_ops & (FAULTY_BIT(FAULTY_SYNC) | FAULTY_BIT(FAULTY_TRUNCATE))) != 0;
}

static bool oracle_code_fits(const struct oracle *o, int rc) {
    bool lost = oracle_may_poison(o) && (rc == LEAT_EPOISONED || rc == LEAT_EIO);
    if (o->calm)
        return lost;
    if (oracle_faults(o) == 0)
        return false;
    if (o->mem_fault)
        return rc == LEAT_ENOMEM;
    if (o->os.plan.how == FAULTY_SHORT || o->os.plan.how == FAULTY_EINTR)
        return false;
    for (int i = 0; i < o->os.errors && !lost; i++)
        lost = rc == oracle_code_of(o->os.error[i]);
    return lost;
}

bool oracle_fits(struct oracle *o, const char *what, int rc, int also) {
    if (rc >= 0)
        return true;
    if (!(also != 0 && rc == also) && !oracle_code_fits(o, rc))
        oracle_complain(o, "%s: %s (%s) does not fit", what, leat_errname(rc), leat_errmsg());
    return false;
}

bool oracle_again(const struct oracle *o) {
    return !o->sticky && !o->calm;
}

bool oracle_must(struct oracle *o, const char *what, int rc, int expected) {
    if (rc == expected || (rc < 0 && rc == LEAT_EPOISONED && oracle_may_poison(o)) ||
        (rc < 0 && rc == LEAT_EIO && oracle_may_poison(o)))
        return rc == expected;
    oracle_complain(o, "%s: %d %s (%s), not %d", what, rc, leat_errname(rc), leat_errmsg(),
                    expected);
    return false;
}

// ---- sending

static uint8_t oracle_values[ORACLE_VALUE_MAX];

static leat_bytes oracle_value_in(uint8_t *buf, int number, size_t size) {
    char digits[16];
    (void)snprintf(digits, sizeof digits, "%04x", (unsigned)number);
    for (size_t i = 0; i < size; i++)
        buf[i] = (uint8_t)((size_t)number * 31 + i * 7);
    memcpy(buf, digits, 4);
    return (leat_bytes){ buf, size };
}

static leat_bytes oracle_value(int number, size_t size) {
    return oracle_value_in(oracle_values, number, size);
}

static leat_bytes oracle_key(int number, char buf[16]) {
    if (number % 2 == 0)
        return (leat_bytes){ NULL, 0 };
    int n = snprintf(buf, 16, "key-%d", number);
    return (leat_bytes){ buf, (size_t)n };
}

static void oracle_note_sent(struct oracle *o, const struct oracle_sending *s, int rc,
                             const leat_metadata *md, bool lost_log) {
    struct sent *x = &o->sent[o->count++];
    *x = (struct sent){ .topic = s->topic,
                        .state = SENT_YES,
                        .partition = s->partition,
                        .offset = md->offset,
                        .size = s->size,
                        .blind = o->blind };
    bool *poisoned = &o->poisoned[s->topic][s->partition];
    if (rc == 0) {
        if (md->offset < 0 || md->partition != s->partition)
            oracle_complain(o, "send: stored at partition %d offset %lld", md->partition,
                            (long long)md->offset);
        if (*poisoned)
            oracle_complain(o, "send: 0 from a partition whose sync has failed");
        return;
    }
    x->state = s->disk && rc == LEAT_EIO ? SENT_MAYBE : SENT_NO;
    if (*poisoned && rc != LEAT_EPOISONED && rc != LEAT_EGONE)
        oracle_complain(o, "send: %s from a partition whose sync has failed", leat_errname(rc));
    if (lost_log)
        *poisoned = true;
}

void oracle_make(int n, int32_t partition, size_t size, struct oracle_made *m) {
    m->record = (leat_record){ .key = oracle_key(n, m->key),
                               .value = oracle_value(n, size),
                               .to_partition = LEAT_PARTITION(partition) };
    if (n % 3 != 0)
        return;
    m->header = (leat_header){ LEAT_STR("number"), m->record.key };
    m->record.headers = &m->header;
    m->record.header_count = 1;
}

int oracle_send(struct oracle *o, const struct oracle_sending *s) {
    int number = o->count;
    if (number == ORACLE_SENT) {
        oracle_complain(o, "the oracle is full");
        return LEAT_EFULL;
    }
    struct oracle_made made;
    oracle_make(number, s->partition, s->size, &made);
    leat_metadata md = { .offset = -1, .partition = -1 };
    int lost = o->os.lost_count;
    int rc =
        s->q ? leat_queue_send(s->q, &made.record, &md) : leat_send(s->p, s->t, &made.record, &md);
    bool lost_log = o->os.lost_count > lost && strstr(o->os.lost_path, ".log") != NULL;
    oracle_note_sent(o, s, rc, &md, lost_log);
    // With acks DISK the store may have refused anything after the record was in the log.
    int also = s->disk && !o->calm && oracle_faults(o) > 0 ? LEAT_EIO
               : s->topic == ON_GONE                       ? LEAT_EGONE
                                                           : 0;
    (void)oracle_fits(o, s->q ? "queue send" : "send", rc, also);
    return rc;
}

// ---- sending many

static struct { // the records of one call
    leat_record r[ORACLE_MANY];
    leat_header header[ORACLE_MANY];
    leat_metadata md[ORACLE_MANY];
    char key[ORACLE_MANY][16];
    uint8_t value[ORACLE_MANY][ORACLE_MANY_SIZE];
} batch;

static void oracle_make_many(int number, int n) {
    for (int i = 0; i < n; i++) {
        leat_record *r = &batch.r[i];
        *r = (leat_record){ .key = oracle_key(number + i, batch.key[i]),
                            .value = oracle_value_in(batch.value[i], number + i, ORACLE_MANY_SIZE),
                            .to_partition = LEAT_PARTITION(i % ORACLE_PARTS) };
        if ((number + i) % 3 != 0)
            continue;
        batch.header[i] = (leat_header){ LEAT_STR("number"), r->key };
        r->headers = &batch.header[i];
        r->header_count = 1;
    }
}

// What each record was told must be the same for all of its partition: a batch is whole.
static void oracle_note_many(struct oracle *o, const struct oracle_sending *s, int n, int rc) {
    for (int i = 0; i < n; i++) {
        const leat_metadata *md = &batch.md[i];
        bool stored = md->offset >= 0;
        if (i >= ORACLE_PARTS && stored != (batch.md[i - ORACLE_PARTS].offset >= 0))
            oracle_complain(o, "send many: record %d of %d is stored alone, or missing", i, n);
        if (stored && i >= ORACLE_PARTS && md->offset != batch.md[i - ORACLE_PARTS].offset + 1)
            oracle_complain(o, "send many: offset %lld behind %lld", (long long)md->offset,
                            (long long)batch.md[i - ORACLE_PARTS].offset);
        if (rc == 0 && !stored)
            oracle_complain(o, "send many: 0, and record %d is not stored", i);
        if (rc == 0 && o->poisoned[s->topic][i % ORACLE_PARTS])
            oracle_complain(o, "send many: 0 from a partition whose sync has failed");
        o->sent[o->count++] = (struct sent){ .topic = s->topic,
                                             .state = !stored                     ? SENT_NO
                                                      : s->disk && rc == LEAT_EIO ? SENT_MAYBE
                                                                                  : SENT_YES,
                                             .partition = i % ORACLE_PARTS,
                                             .offset = md->offset,
                                             .size = ORACLE_MANY_SIZE,
                                             .blind = o->blind };
    }
}

void oracle_note_lost(struct oracle *o, enum oracle_topic topic, int before) {
    for (int i = 0; i < ORACLE_PARTS && o->os.lost_count > before; i++) {
        char place[24];
        (void)snprintf(place, sizeof place, "/%d/0000", i);
        if (strstr(o->os.lost_path, ".log") && strstr(o->os.lost_path, place))
            o->poisoned[topic][i] = true;
    }
}

int oracle_send_many(struct oracle *o, const struct oracle_sending *s, int n) {
    if (o->count + n > ORACLE_SENT) {
        oracle_complain(o, "the oracle is full");
        return LEAT_EFULL;
    }
    int lost = o->os.lost_count;
    oracle_make_many(o->count, n);
    int rc = leat_send_many(s->p, s->t, batch.r, (size_t)n, batch.md);
    oracle_note_many(o, s, n, rc);
    oracle_note_lost(o, s->topic, lost);
    (void)oracle_fits(o, "send many", rc,
                      s->disk && !o->calm && oracle_faults(o) > 0 ? LEAT_EIO : 0);
    return rc;
}

// ---- reading

static bool oracle_same(leat_bytes a, leat_bytes b) {
    return a.size == b.size && (a.data == NULL) == (b.data == NULL) &&
           (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static int oracle_number(const struct oracle *o, const leat_message *m) {
    const char *p = m->value.data;
    int number = 0;
    for (int i = 0; m->value.size >= 4 && i < 4; i++) {
        int digit = p[i] >= '0' && p[i] <= '9'   ? p[i] - '0'
                    : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10
                                                 : 4096;
        number = number * 16 + digit;
    }
    return m->value.size >= 4 && number < o->count ? number : -1;
}

static bool oracle_same_headers(const leat_message *m, int number, leat_bytes key) {
    leat_header h;
    if (number % 3 != 0)
        return true;
    return leat_message_header(m, 0, &h) == 1 && oracle_same(h.name, leat_str("number")) &&
           oracle_same(h.value, key);
}

// A message in a dead-letter queue says where it comes from, behind its own headers.
static bool oracle_same_origin(const leat_message *m, int number, const struct sent *x) {
    static const char *const names[] = { "leat.queue",  "leat.topic",     "leat.partition",
                                         "leat.offset", "leat.timestamp", "leat.deliveries",
                                         "leat.reason" };
    char offset[24];
    (void)snprintf(offset, sizeof offset, "%lld", (long long)x->offset);
    const char *const values[] = { "q", "q", "0", x->offset >= 0 ? offset : NULL, NULL, "2", NULL };
    size_t first = number % 3 == 0;
    for (size_t i = 0; i < 7; i++) {
        leat_header h;
        if (leat_message_header(m, first + i, &h) != 1 || !oracle_same(h.name, leat_str(names[i])))
            return false;
        if (values[i] && !oracle_same(h.value, leat_str(values[i])))
            return false;
    }
    leat_header h;
    return leat_message_header(m, first + 7, &h) == 0;
}

struct sent *oracle_check(struct oracle *o, enum oracle_topic topic, const leat_message *m) {
    int number = oracle_number(o, m);
    struct sent *x = number < 0 ? NULL : &o->sent[number];
    char key[16];
    if (!x || x->topic != (topic == ON_DEAD ? ON_QUEUE : topic)) {
        oracle_complain(o, "topic %s offset %lld was never sent", m->topic, (long long)m->offset);
        return NULL;
    }
    if (x->state == SENT_NO)
        oracle_complain(o, "record %d of topic %s is here and was certainly not stored", number,
                        m->topic);
    leat_bytes k = oracle_key(number, key);
    if (!oracle_same(m->value, oracle_value(number, x->size)) || !oracle_same(m->key, k) ||
        !oracle_same_headers(m, number, k))
        oracle_complain(o, "record %d of topic %s has other bytes", number, m->topic);
    if (topic == ON_DEAD) {
        if (!oracle_same_origin(m, number, x))
            oracle_complain(o, "record %d is dead with another origin", number);
    } else if (m->partition != x->partition || (x->offset >= 0 && m->offset != x->offset)) {
        oracle_complain(o, "record %d of topic %s is at %d:%lld, not %d:%lld", number, m->topic,
                        m->partition, (long long)m->offset, x->partition, (long long)x->offset);
    }
    return x;
}

static void oracle_read(struct oracle *o, leat_consumer *c, enum oracle_topic topic) {
    int64_t next[ORACLE_PARTS] = { 0 };
    const leat_message *m;
    int n;
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < n; i++) {
            struct sent *x = oracle_check(o, topic, &m[i]);
            int64_t *want = &next[m[i].partition % ORACLE_PARTS];
            if (m[i].offset != *want)
                oracle_complain(o, "topic %s has offset %lld where %lld should be", m[i].topic,
                                (long long)m[i].offset, (long long)*want);
            *want = m[i].offset + 1;
            if (x)
                x->times++;
        }
    (void)oracle_must(o, "reading all", n, 0);
}

void oracle_read_all(struct oracle *o, const char *name, enum oracle_topic topic, int partitions) {
    leat_consumer *c = NULL;
    leat_position at[ORACLE_PARTS];
    for (int32_t i = 0; i < partitions; i++)
        at[i] = (leat_position){ .topic = name, .offset = LEAT_BEGIN, .partition = i };
    for (int i = 0; i < o->count; i++)
        o->sent[i].times = 0;
    if (oracle_must(o, "consumer open", leat_consumer_open(o->mq, NULL, NULL, &c), 0) &&
        oracle_must(o, "assign", leat_consumer_assign(c, at, (size_t)partitions), 0))
        oracle_read(o, c, topic);
    if (c)
        (void)oracle_must(o, "consumer close", leat_consumer_close(c), 0);
    for (int i = 0; i < o->count; i++) {
        const struct sent *x = &o->sent[i];
        if (x->topic == topic && (x->times > 1 || (x->times == 0 && x->state == SENT_YES)))
            oracle_complain(o, "record %d of topic %s is there %d times", i, name, x->times);
    }
}

// ---- the group

void oracle_commit_tried(struct oracle *o, const int64_t position[ORACLE_PARTS], bool done) {
    for (int i = 0; i < ORACLE_PARTS; i++) {
        struct committed *c = &o->committed[i];
        bool sure = done && position[i] >= 0;
        if (sure || c->count == 7)
            c->count = 0;
        if (!sure && c->count == 0)
            c->can[c->count++] = -1;
        c->can[c->count++] = position[i] < 0 ? 0 : position[i];
    }
}

void oracle_check_committed(struct oracle *o, leat_consumer *c, int64_t position[ORACLE_PARTS]) {
    leat_position at[ORACLE_PARTS + 1];
    int n = leat_consumer_positions(c, 0, at, ORACLE_PARTS + 1);
    for (int i = 0; i < n && i < ORACLE_PARTS; i++)
        position[at[i].partition % ORACLE_PARTS] = at[i].offset;
    n = leat_consumer_positions(c, 1, at, ORACLE_PARTS + 1);
    if (!oracle_must(o, "positions", n, ORACLE_PARTS))
        return;
    for (int i = 0; i < n; i++) {
        const struct committed *can = &o->committed[at[i].partition];
        bool fits = can->count == 0 && at[i].offset == -1;
        for (int k = 0; k < can->count; k++)
            fits |= can->can[k] == at[i].offset;
        if (!fits)
            oracle_complain(o, "committed offset of partition %d is %lld, not %lld", i,
                            (long long)at[i].offset,
                            can->count ? (long long)can->can[can->count - 1] : -1);
    }
}

// ---- the queues

static void oracle_check_deliveries(struct oracle *o, const leat_message *m, struct sent *x) {
    int least = x->seen + 1, most = least + o->blind - x->blind;
    if (m->deliveries < least || m->deliveries > most || m->deliveries > 2)
        oracle_complain(o, "message %lld comes as delivery %d, not %d to %d", (long long)m->offset,
                        m->deliveries, least, most);
    x->seen = m->deliveries;
    x->blind = o->blind;
    if (x->acked)
        oracle_complain(o, "message %lld was acknowledged and comes again", (long long)m->offset);
}

int oracle_receive(struct oracle *o, leat_queue *q, enum oracle_topic topic, int64_t timeout_ms,
                   leat_message *m, struct sent **out) {
    *out = NULL;
    int rc = leat_queue_receive(q, timeout_ms, m, 1);
    if (!oracle_fits(o, "receive", rc, 0)) {
        o->blind++;
        if (!oracle_again(o))
            return rc;
        rc = leat_queue_receive(q, timeout_ms, m, 1);
        if (rc < 0)
            (void)oracle_must(o, "receive, again", rc, 1);
    }
    if (rc <= 0)
        return rc;
    struct sent *x = *out = oracle_check(o, topic, m);
    if (x && topic == ON_QUEUE)
        oracle_check_deliveries(o, m, x);
    if (x && topic == ON_LOG && x->over_acked)
        oracle_complain(o, "record %lld was acknowledged and comes again", (long long)m->offset);
    if (x && topic == ON_DEAD) {
        x->in_dead++;
        if (x->acked)
            oracle_complain(o, "message %lld was acknowledged and is dead", (long long)x->offset);
    }
    return rc;
}

void oracle_ack(struct oracle *o, leat_queue *q, enum oracle_topic topic, leat_message *m,
                struct sent *s) {
    leat_message copy = *m;
    long asked = o->mem.asked;
    int rc = leat_queue_ack(q, m);
    if (o->mem.asked != asked)
        oracle_complain(o, "ack allocates");
    if (rc < 0 && (o->memory || o->write == LEAT_WRITE_MAPPED))
        oracle_complain(o, "ack: %s (%s) where it cannot fail", leat_errname(rc), leat_errmsg());
    if (!oracle_fits(o, "ack", rc, 0) && oracle_again(o)) {
        rc = leat_queue_ack(q, &copy);
        (void)oracle_must(o, "ack, again", rc, 0);
    }
    if (!s)
        return;
    bool *acked = topic == ON_QUEUE ? &s->acked : topic == ON_LOG ? &s->over_acked : &s->dead_acked;
    bool *maybe = topic == ON_QUEUE ? &s->maybe_acked
                  : topic == ON_LOG ? &s->over_maybe
                                    : &s->dead_maybe;
    *acked |= rc == 0;
    *maybe |= rc != 0;
}

static void oracle_drain_one(struct oracle *o, leat_queue *q, enum oracle_topic topic) {
    leat_message m;
    struct sent *x;
    for (int i = 0; i < o->count; i++)
        o->sent[i].in_queue = 0;
    while (q && oracle_receive(o, q, topic, 0, &m, &x) > 0) {
        if (x)
            x->in_queue++;
        oracle_ack(o, q, topic, &m, NULL);
    }
}

static void oracle_owed_queue(struct oracle *o, int i, const struct sent *x, int in_queue) {
    bool owed = x->state == SENT_YES && !x->acked && !x->maybe_acked && !x->dead_acked;
    // Where the copy was stored and noting so failed, a second one is allowed.
    int most = !o->memory && !o->mem_fault && in_queue == 0 ? 2 : 1;
    if (in_queue + x->in_dead > most)
        oracle_complain(o, "message %d is there twice: %d in the queue, %d dead", i, in_queue,
                        x->in_dead);
    if (in_queue + x->in_dead == 0 && owed)
        oracle_complain(o, "message %d is lost", i);
}

void oracle_drain(struct oracle *o, leat_queue *q, leat_queue *dead, leat_queue *over) {
    int in_queue[ORACLE_SENT];
    oracle_drain_one(o, q, ON_QUEUE);
    for (int i = 0; i < o->count; i++)
        in_queue[i] = o->sent[i].in_queue;
    oracle_drain_one(o, dead, ON_DEAD);
    for (int i = 0; i < o->count; i++)
        if (q && dead && o->sent[i].topic == ON_QUEUE)
            oracle_owed_queue(o, i, &o->sent[i], in_queue[i]);
    oracle_drain_one(o, over, ON_LOG);
    for (int i = 0; i < o->count; i++) {
        struct sent *x = &o->sent[i];
        bool owed = x->topic == ON_LOG && x->state == SENT_YES && !x->over_acked && !x->over_maybe;
        if (over && owed && x->in_queue != 1)
            oracle_complain(o, "record %d is in the queue over its topic %d times", i, x->in_queue);
        x->acked |= q != NULL; // all of it is settled now
        x->dead_acked |= dead != NULL;
        x->over_acked |= over != NULL;
    }
}
