/* SPDX-License-Identifier: MIT */
// damage: what an open makes of a damaged store, held to what was promised.
#include "lib/crash_tree.h"
#include "lib/damage_text.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct damage_totals damage_totals;
char damage_what[512];

struct look {
    struct crash_os *os;
    const struct damage_store *d;
    unsigned harm;
    uint32_t flags;
    leat *mq;
    leat_topic *t[DAMAGE_TOPICS];
    bool said;    // the log callback was told of damage
    bool excused; // an error told that something cannot be used
    bool again;   // the second open: what the first one read and sent is there
    bool failed;
    struct {
        int64_t end, fresh; // fresh: the offset of what was sent after the damage; -1
        int64_t commit;
        bool read[DAMAGE_RECORDS], told[DAMAGE_RECORDS];
    } part[DAMAGE_TOPICS][DAMAGE_PARTS];
    size_t alloc_sum;
    char first[160];
};

__attribute__((format(printf, 2, 3))) static void look_fail(struct look *l, const char *format,
                                                            ...) {
    static struct {
        const char *format;
        int count;
    } class[64];
    if (l->failed)
        return; // one a case
    l->failed = true;
    damage_totals.failures++;
    int i = 0;
    while (i < 63 && class[i].format && class[i].format != format)
        i++;
    class[i].format = format;
    if (class[i].count++ >= 12)
        return;
    (void)printf("FAILURE %s%s%s: ", l->d->killed ? "killed: " : "closed: ", damage_what,
                 l->flags & LEAT_SKIP_ROT ? " (LEAT_SKIP_ROT)" : "");
    va_list list;
    va_start(list, format);
    (void)vprintf(format, list);
    va_end(list);
    (void)printf("%s\n", l->again ? ", the second time" : "");
    (void)fflush(stdout);
}

// ---- the store's surroundings

static void look_log(int level, const char *text, void *ctx) {
    struct look *l = ctx;
    l->said |= level == LEAT_LOG_ERROR;
    if (!l->first[0])
        (void)snprintf(l->first, sizeof l->first, "%s", text);
}

static void *look_alloc(void *ctx, void *old, size_t size) {
    struct look *l = ctx;
    if (size == 0) {
        free(old);
        return NULL;
    }
    l->alloc_sum += size;
    if (size > DAMAGE_ALLOC_MAX || l->alloc_sum > DAMAGE_ALLOC_SUM) {
        look_fail(l, "it asks for %zu bytes, %zu in all", size, l->alloc_sum);
        return NULL;
    }
    return realloc(old, size);
}

static void look_load(struct crash_os *c, const struct damage_store *d) {
    static struct crash_model *empty;
    if (!empty) {
        empty = crash_alloc(sizeof *empty);
        crash_model_init(empty);
    }
    crash_os_load(c, empty, false);
    struct lt_os *os = &c->os;
    char path[128];
    damage_must("mkdir", os->mkdir(os, AT_FDCWD, "store", 0700));
    for (int i = 0; i < d->files; i++) {
        const struct damage_file *f = &d->file[i];
        if (f->gone)
            continue;
        (void)snprintf(path, sizeof path, "store/%s", f->path);
        if (f->is_dir) {
            damage_must("mkdir", os->mkdir(os, AT_FDCWD, path, 0700));
            continue;
        }
        int fd = os->open(os, AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        damage_must("create", fd);
        if (f->size > 0)
            damage_must("write", (int)os->pwrite(os, fd, f->bytes, f->size, 0));
        damage_must("close", os->close(os, fd));
    }
    c->calls = 0;
}

static bool look_there(struct crash_os *c, const char *path, const char *suffix) {
    char whole[160];
    (void)snprintf(whole, sizeof whole, "store/%s%s", path, suffix);
    int fd = c->os.open(&c->os, AT_FDCWD, whole, O_RDONLY, 0);
    if (fd >= 0)
        (void)c->os.close(&c->os, fd);
    return fd >= 0;
}

// Nothing is deleted: a segment may be set aside, and one that is a header and nothing else may
// give way to the one that states the gap.
static void look_at_files(struct look *l) {
    for (int i = 0; i < l->d->files; i++) {
        const struct damage_file *f = &l->d->file[i];
        bool bare = f->size == 4096 && strstr(f->path, ".log") && l->said;
        if (!f->gone && !bare && !look_there(l->os, f->path, "") &&
            !look_there(l->os, f->path, ".cut"))
            look_fail(l, "%s was deleted", f->path);
    }
}

static bool look_open(struct look *l) {
    leat_options o = {
        .flags = l->flags, .log = look_log, .log_ctx = l, .alloc = look_alloc, .alloc_ctx = l
    };
    damage_totals.opens++;
    l->alloc_sum = 0;
    int rc = damage_open(l->os, &o, &l->mq);
    if (rc == 0)
        return true;
    const char *why = leat_errmsg();
    if (l->harm & DAMAGE_QUIET)
        look_fail(l, "it does not open: %s (%s)", leat_errname(rc), why);
    else if (l->again)
        look_fail(l, "it does not open again: %s (%s)", leat_errname(rc), why);
    else if (rc != LEAT_ECORRUPT && rc != LEAT_EINVAL && rc != LEAT_EEXIST && rc != LEAT_EIO)
        look_fail(l, "open is %s: %s", leat_errname(rc), why);
    else if (!strstr(why, "store"))
        look_fail(l, "open is %s and names nothing: %s", leat_errname(rc), why);
    damage_totals.refused++;
    look_at_files(l);
    return false;
}

// ---- records

static void look_at_message(struct look *l, int topic, int part, const leat_message *m) {
    char text[DAMAGE_TEXT];
    damage_text(text, topic, part, m->offset);
    if (m->offset == l->part[topic][part].fresh)
        text[0] = 'F';
    if (m->value.size != DAMAGE_TEXT || memcmp(m->value.data, text, DAMAGE_TEXT) != 0 ||
        m->key.data || m->header_count != 0)
        look_fail(l, "%s:%d offset %lld is %.20s", damage_topic[topic], part, (long long)m->offset,
                  m->value.size ? (const char *)m->value.data : "empty");
}

// Reads all of a partition; what is said to be damaged is stepped over.
static void look_read(struct look *l, int topic, int part, bool read[DAMAGE_RECORDS]) {
    leat_consumer *c;
    const leat_message *m;
    const char *name = damage_topic[topic];
    damage_must("consumer", leat_consumer_open(l->mq, NULL, NULL, &c));
    leat_position at = { .topic = name, .offset = LEAT_BEGIN, .partition = part };
    damage_must("assign", leat_consumer_assign(c, &at, 1));
    int64_t last = -1;
    for (int turn = 0; turn < DAMAGE_RECORDS; turn++) {
        int n = leat_poll(c, 0, &m);
        if (n == 0)
            break;
        for (int i = 0; i < n; i++) {
            look_at_message(l, topic, part, &m[i]);
            if (m[i].offset <= last || m[i].offset >= DAMAGE_RECORDS)
                look_fail(l, "%s:%d offset %lld comes after %lld", name, part,
                          (long long)m[i].offset, (long long)last);
            else
                read[last = m[i].offset] = true;
        }
        if (n > 0)
            continue;
        (void)leat_consumer_positions(c, 0, &at, 1);
        if (n != LEAT_ECORRUPT || at.offset <= last || at.offset >= DAMAGE_RECORDS) {
            look_fail(l, "poll at %s:%d:%lld is %s: %s", name, part, (long long)at.offset,
                      leat_errname(n), leat_errmsg());
            break;
        }
        l->part[topic][part].told[at.offset] = true;
        damage_totals.told++;
        damage_must("seek", leat_consumer_seek(c, name, part, at.offset + 1));
    }
    damage_must("consumer close", leat_consumer_close(c));
}

static void look_at_part(struct look *l, int topic, int part) {
    const struct damage_part *p = &l->d->part[topic][part];
    bool read[DAMAGE_RECORDS] = { false };
    leat_range r;
    damage_must("range", leat_topic_range(l->t[topic], part, &r));
    look_read(l, topic, part, read);
    if (r.begin != p->begin && !(l->harm & DAMAGE_COMMITS) && topic == 0 && !l->said)
        look_fail(l, "%s:%d begins at %lld", damage_topic[topic], part, (long long)r.begin);
    bool told = l->said || l->excused;
    for (int64_t i = p->begin; i < p->end; i++) {
        if (read[i] || told || l->part[topic][part].told[i])
            continue;
        if (l->again && !l->part[topic][part].read[i])
            continue;
        if (i >= p->synced && (l->harm & DAMAGE_TAIL) && !l->again)
            damage_totals.tail++;
        else if (!(topic == 1 && l->again)) // what is done goes
            look_fail(l, "%s:%d offset %lld is missing", damage_topic[topic], part, (long long)i);
    }
    int64_t fresh = l->part[topic][part].fresh;
    if (fresh >= 0 && !read[fresh])
        look_fail(l, "%s:%d offset %lld, sent since, is missing", damage_topic[topic], part,
                  (long long)fresh);
    l->part[topic][part].end = r.end;
    memcpy(l->part[topic][part].read, read, sizeof read);
}

// ---- commits

static void look_at_commits(struct look *l) {
    leat_lag lag[8];
    int n = leat_group_lag(l->mq, "group", lag, 8, sizeof lag[0]);
    if (n < 0) {
        look_fail(l, "the group is lost: %s", leat_errmsg());
        return;
    }
    for (int part = 0; part < DAMAGE_PARTS; part++) {
        const struct damage_part *p = &l->d->part[0][part];
        int64_t is = -1;
        for (int i = 0; i < n; i++)
            if (strcmp(lag[i].topic, damage_topic[0]) == 0 && lag[i].partition == part)
                is = lag[i].committed;
        bool ever = is == -1;
        for (int i = 0; i < p->commits; i++)
            ever |= p->commit[i] == is;
        bool last = is == (p->commits > 0 ? p->commit[p->commits - 1] : -1);
        if (l->again ? is != l->part[0][part].commit
                     : !last && (!ever || !(l->harm & DAMAGE_COMMITS)))
            look_fail(l, "stream:%d is committed at %lld", part, (long long)is);
        damage_totals.commits += !last && !l->again;
        l->part[0][part].commit = is;
    }
}

// ---- the queue

static void look_at_delivery(struct look *l, const leat_message *m, bool got[DAMAGE_RECORDS]) {
    const struct damage_part *p = &l->d->part[1][0];
    look_at_message(l, 1, 0, m);
    if (m->offset < 0 || m->offset >= DAMAGE_RECORDS || got[m->offset]) {
        look_fail(l, "the queue gives offset %lld", (long long)m->offset);
        return;
    }
    got[m->offset] = true;
    bool right =
        !p->acked[m->offset] && !p->kept[m->offset] && m->deliveries == p->tries[m->offset] + 1;
    damage_totals.ledger += !right;
    if (!right && !(l->harm & DAMAGE_LEDGER))
        look_fail(l, "work:0 offset %lld is delivery %d, after %d%s", (long long)m->offset,
                  m->deliveries, p->tries[m->offset], p->acked[m->offset] ? ", acknowledged" : "");
    if (m->deliveries > 3 || m->deliveries < 1)
        look_fail(l, "work:0 offset %lld is delivery %d", (long long)m->offset, m->deliveries);
}

static void look_at_queue(struct look *l) {
    const struct damage_part *p = &l->d->part[1][0];
    leat_queue *q;
    leat_queue_options o = { .flags = LEAT_MUST_EXIST };
    static leat_message m[DAMAGE_RECORDS];
    bool got[DAMAGE_RECORDS] = { false }, told = false;
    int held = 0;
    damage_must("queue", leat_queue_open(l->mq, "q", &o, &q));
    for (int turn = 0; turn < DAMAGE_RECORDS && held < DAMAGE_RECORDS - 8; turn++) {
        int n = leat_queue_receive(q, 0, m + held, 8);
        for (int i = 0; i < n; i++)
            look_at_delivery(l, &m[held++], got);
        if (n > 0)
            continue;
        told = n == LEAT_ECORRUPT;
        if (n != 0 && n != LEAT_ECORRUPT)
            look_fail(l, "receive is %s: %s", leat_errname(n), leat_errmsg());
        break;
    }
    for (int64_t i = 0; i < p->end && !told; i++)
        if (!got[i] && !p->acked[i] && !p->kept[i] && l->part[1][0].read[i])
            look_fail(l, "work:0 offset %lld is never delivered", (long long)i);
    leat_queue_stats stats = { 0 };
    uint64_t kept = 0;
    damage_must("stats", leat_queue_get_stats(q, &stats, sizeof stats));
    for (int i = 0; i < DAMAGE_RECORDS; i++)
        kept += p->kept[i];
    if (stats.kept != kept && !(l->harm & DAMAGE_LEDGER) && !l->said)
        look_fail(l, "%d of the dead are kept, not %d", (int)stats.kept, (int)kept);
    for (int i = 0; i < held; i++)
        damage_must("release", leat_message_release(l->mq, &m[i]));
    damage_must("queue close", leat_queue_close(q));
}

// ---- going on

static void look_send(struct look *l, leat_producer *producer, int topic, int part) {
    const struct damage_part *p = &l->d->part[topic][part];
    int64_t least = p->synced, end = l->part[topic][part].end;
    if ((l->harm & DAMAGE_PROOF) && l->said)
        least = 0;
    if (topic == 1 && !(l->harm & DAMAGE_LEDGER) && p->handed > least)
        least = p->handed;
    for (int64_t i = 0; i < DAMAGE_RECORDS; i++)
        least = l->part[topic][part].read[i] && i >= least ? i + 1 : least;
    if (topic == 0 && l->part[topic][part].commit > least)
        least = l->part[topic][part].commit;
    char text[DAMAGE_TEXT];
    damage_text(text, topic, part, end);
    text[0] = 'F';
    leat_record r = { .value = { text, DAMAGE_TEXT }, .to_partition = LEAT_PARTITION(part) };
    leat_metadata md;
    int rc = leat_send(producer, l->t[topic], &r, &md);
    if (rc != 0)
        look_fail(l, "a send to %s:%d is %s: %s", damage_topic[topic], part, leat_errname(rc),
                  leat_errmsg());
    else if (md.offset < least || md.offset != end || md.offset >= DAMAGE_RECORDS)
        look_fail(l, "%s:%d goes on at %lld, not at %lld", damage_topic[topic], part,
                  (long long)md.offset, (long long)least);
    else
        l->part[topic][part].fresh = md.offset;
}

static void look_go_on(struct look *l) {
    leat_producer *producer;
    damage_must("producer", leat_producer_open(l->mq, NULL, &producer));
    for (int i = 0; i < DAMAGE_TOPICS && !l->failed; i++)
        for (int k = 0; k < damage_parts[i]; k++)
            look_send(l, producer, i, k);
    int rc = leat_sync(l->mq);
    if (rc != 0 && !l->failed)
        look_fail(l, "sync is %s: %s", leat_errname(rc), leat_errmsg());
}

static void look_close(struct look *l) {
    int rc = leat_close_all(l->mq, 0);
    if (rc != 0)
        look_fail(l, "close is %s: %s", leat_errname(rc), leat_errmsg());
    if (!crash_os_idle(l->os))
        look_fail(l, "descriptors or mappings are left");
}

static bool look_topics(struct look *l) {
    leat_topic_options o = { .flags = LEAT_MUST_EXIST };
    leat_topic *gone;
    for (int i = 0; i < DAMAGE_TOPICS; i++)
        if (leat_topic_open(l->mq, damage_topic[i], &o, &l->t[i]) != 0) {
            look_fail(l, "topic %s is lost", damage_topic[i]);
            return false;
        }
    if (leat_topic_open(l->mq, "gone", &o, &gone) != LEAT_ENOENT)
        look_fail(l, "a deleted topic is there again");
    return !l->failed;
}

void damage_try(struct crash_os *os, const struct damage_store *d, unsigned harm, uint32_t flags) {
    static struct look l;
    memset(&l, 0, sizeof l);
    l.os = os;
    l.d = d;
    l.harm = harm;
    l.flags = flags;
    for (int i = 0; i < DAMAGE_TOPICS * DAMAGE_PARTS; i++)
        l.part[i / DAMAGE_PARTS][i % DAMAGE_PARTS].fresh = -1;
    long told = damage_totals.told;
    damage_totals.cases++;
    look_load(os, d);
    for (int pass = 0; pass < 2 && !l.failed; pass++) {
        l.again = pass == 1;
        if (!look_open(&l))
            return;
        if (pass == 0)
            look_at_files(&l);
        bool there = look_topics(&l);
        for (int i = 0; there && i < DAMAGE_TOPICS; i++)
            for (int k = 0; k < damage_parts[i]; k++)
                look_at_part(&l, i, k);
        if (there)
            look_at_commits(&l);
        if (there && pass == 0)
            look_at_queue(&l);
        if ((harm & DAMAGE_QUIET) && (l.said || damage_totals.told != told))
            look_fail(&l, "it tells of damage that is none: %s", l.first);
        if (there && pass == 0 && !l.failed)
            look_go_on(&l);
        look_close(&l);
    }
}
