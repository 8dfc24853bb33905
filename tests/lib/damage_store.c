/* SPDX-License-Identifier: MIT */
// damage: making the two stores.
#include "lib/damage.h"

#include "lib/crash_tree.h"
#include "lib/damage_text.h"
#include "store/store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

const char *const damage_topic[DAMAGE_TOPICS] = { "stream", "work" };
const int damage_parts[DAMAGE_TOPICS] = { 2, 1 };

void damage_text(char out[DAMAGE_TEXT], int topic, int part, int64_t offset) {
    memset(out, 'a' + (int)(offset % 26), DAMAGE_TEXT);
    int n = snprintf(out, DAMAGE_TEXT, "%s:%d:%lld", damage_topic[topic], part, (long long)offset);
    out[n] = ' ';
}

void damage_must(const char *what, int rc) {
    if (rc >= 0)
        return;
    (void)printf("the store itself failed: %s is %s: %s\n", what, leat_errname(rc), leat_errmsg());
    (void)fflush(stdout);
    abort();
}

int damage_open(struct crash_os *os, const leat_options *more, leat **mq) {
    leat_options o = *more;
    o.threads = LEAT_NO_THREADS;
    o.clock = LEAT_CLOCK_MANUAL;
    o.seed = 1;
    return lt_store_open("store", &o, &os->os, mq);
}

// ---- the work

struct maker {
    struct damage_store *d;
    leat *mq;
    leat_topic *t[DAMAGE_TOPICS];
    leat_producer *log;
    leat_consumer *c;
    leat_queue *q;
    leat_message held[DAMAGE_RECORDS];
    int held_count;
};

static void maker_send(struct maker *m, int topic, int part, int n) {
    struct damage_part *p = &m->d->part[topic][part];
    for (int i = 0; i < n; i++) {
        char text[DAMAGE_TEXT];
        damage_text(text, topic, part, p->end);
        leat_record r = { .value = { text, DAMAGE_TEXT }, .to_partition = LEAT_PARTITION(part) };
        leat_metadata md;
        damage_must("send", leat_send(m->log, m->t[topic], &r, &md));
        if (md.offset != p->end++)
            damage_must("offset", LEAT_EINVAL);
    }
}

// Reads at least n more and commits.
static void maker_commit(struct maker *m, int n) {
    const leat_message *got;
    while (n > 0) {
        int some = leat_poll(m->c, 0, &got);
        damage_must("poll", some);
        n = some > 0 ? n - some : 0;
    }
    damage_must("commit", leat_commit(m->c));
    leat_position at[DAMAGE_PARTS];
    int count = leat_consumer_positions(m->c, 1, at, DAMAGE_PARTS);
    for (int i = 0; i < count; i++) {
        struct damage_part *p = &m->d->part[0][at[i].partition];
        if (p->commits == 0 || p->commit[p->commits - 1] != at[i].offset)
            p->commit[p->commits++] = at[i].offset;
    }
}

static void maker_receive(struct maker *m, int n) {
    damage_must("receive",
                leat_queue_receive(m->q, 0, m->held + m->held_count, (size_t)n) == n ? 0 : -1);
    struct damage_part *p = &m->d->part[1][0];
    for (int i = 0; i < n; i++) {
        int64_t offset = m->held[m->held_count++].offset;
        p->tries[offset]++;
        p->handed = offset >= p->handed ? offset + 1 : p->handed;
    }
}

// Of what is held: the first ones and then every third are done, some come again, some stay.
static void maker_settle(struct maker *m, int first) {
    struct damage_part *p = &m->d->part[1][0];
    for (int i = 0; i < m->held_count; i++) {
        leat_message *h = &m->held[i];
        int64_t offset = h->offset;
        if (offset < first || offset % 3 == 0) {
            damage_must("ack", leat_queue_ack(m->q, h));
            p->acked[offset] = 1;
        } else if (offset % 3 == 1) {
            damage_must("nack", leat_queue_nack(m->q, h, 0, 0));
            p->kept[offset] = p->tries[offset] == 3;
        } else {
            damage_must("release", leat_message_release(m->mq, h));
        }
    }
    m->held_count = 0;
}

static void maker_open(struct maker *m, struct crash_os *os) {
    leat_options plain = { 0 };
    leat_topic_options o = { .segment_bytes = 16384 };
    leat_queue_options q = { .topic = "work", .deliveries_max = 3 };
    leat_producer_options log = { .acks = LEAT_ACKS_LOG };
    leat_consumer_options few = { .max_poll_records = 10 };
    leat_topic *gone;
    damage_must("open", damage_open(os, &plain, &m->mq));
    damage_must("producer", leat_producer_open(m->mq, &log, &m->log));
    damage_must("topic", leat_topic_open(m->mq, "gone", &o, &gone));
    leat_record r = { .value = LEAT_STR("gone") };
    damage_must("send", leat_send(m->log, gone, &r, NULL));
    damage_must("sync", leat_sync(m->mq));
    for (int i = 0; i < DAMAGE_TOPICS; i++) {
        o.partitions = damage_parts[i];
        damage_must("topic", leat_topic_open(m->mq, damage_topic[i], &o, &m->t[i]));
    }
    damage_must("delete", leat_topic_delete(m->mq, "gone"));
    damage_must("consumer", leat_consumer_open(m->mq, "group", &few, &m->c));
    damage_must("subscribe", leat_consumer_subscribe(m->c, "stream"));
    damage_must("queue", leat_queue_open(m->mq, "q", &q, &m->q));
}

static void maker_work(struct maker *m) {
    maker_send(m, 0, 0, 60);
    maker_send(m, 0, 1, 12);
    maker_send(m, 1, 0, 70);
    damage_must("sync", leat_sync(m->mq));
    maker_commit(m, 10);
    maker_send(m, 0, 0, 55);
    maker_receive(m, 20);
    maker_settle(m, 8);
    damage_must("sync", leat_sync(m->mq));
    maker_commit(m, 20);
    maker_send(m, 1, 0, 40);
    maker_receive(m, 20);
    maker_settle(m, 8);
    maker_receive(m, 6);
    maker_settle(m, 8);
    damage_must("delete", leat_topic_delete_records(m->t[0], 0, 6));
    m->d->part[0][0].begin = 6;
    maker_commit(m, 20);
    damage_must("sync", leat_sync(m->mq));
}

// What nobody has synced when the process dies.
static void maker_work_more(struct maker *m) {
    maker_send(m, 0, 0, 6);
    maker_send(m, 0, 1, 5);
    maker_send(m, 1, 0, 5);
    maker_receive(m, 8);
    maker_settle(m, 8);
    maker_commit(m, 20);
}

// ---- taking the files

static void take_file(struct damage_store *d, const struct crash_os *os, const char *path,
                      int file) {
    if (d->files == DAMAGE_FILES)
        damage_must("too many files", LEAT_EFULL);
    struct damage_file *f = &d->file[d->files++];
    const struct crash_file *from = &os->file[file];
    (void)snprintf(f->path, sizeof f->path, "%s", path);
    f->is_dir = from->is_dir;
    f->size = (size_t)from->size;
    f->bytes = crash_alloc(CRASH_FILE_MAX);
    if (!f->is_dir)
        memcpy(f->bytes, from->bytes, f->size);
}

// Parents come before what is in them.
static void take_files(struct damage_store *d, const struct crash_os *os) {
    struct {
        char path[96];
        int file;
    } todo[DAMAGE_FILES];
    int count = 1;
    todo[0].path[0] = '\0';
    todo[0].file = os->file[0].entry[0].file; // the store
    for (int i = 0; i < count; i++) {
        const struct crash_file *dir = &os->file[todo[i].file];
        for (int k = 0; k < dir->entries; k++) {
            char path[96];
            (void)snprintf(path, sizeof path, "%.50s%s%.40s", todo[i].path,
                           todo[i].path[0] ? "/" : "", dir->entry[k].name);
            take_file(d, os, path, dir->entry[k].file);
            if (!os->file[dir->entry[k].file].is_dir || count == DAMAGE_FILES)
                continue;
            memcpy(todo[count].path, path, sizeof path);
            todo[count++].file = dir->entry[k].file;
        }
    }
}

void damage_make(struct damage_store *d, bool killed) {
    static struct crash_os os;
    static struct maker m;
    memset(&m, 0, sizeof m);
    memset(d, 0, sizeof *d);
    m.d = d;
    d->killed = killed;
    crash_os_init(&os);
    maker_open(&m, &os);
    maker_work(&m);
    for (int i = 0; i < DAMAGE_TOPICS * DAMAGE_PARTS; i++)
        d->part[i / DAMAGE_PARTS][i % DAMAGE_PARTS].synced =
            d->part[i / DAMAGE_PARTS][i % DAMAGE_PARTS].end;
    if (killed) {
        maker_work_more(&m);
        take_files(d, &os);
    }
    damage_must("close", leat_close_all(m.mq, 0));
    if (!killed)
        take_files(d, &os);
    crash_os_fini(&os);
}

void damage_free(struct damage_store *d) {
    for (int i = 0; i < DAMAGE_FILES; i++)
        free(d->file[i].bytes);
}

struct damage_file *damage_find(struct damage_store *d, const char *path) {
    for (int i = 0; i < d->files; i++)
        if (strcmp(d->file[i].path, path) == 0 && !d->file[i].gone)
            return &d->file[i];
    return NULL;
}

void damage_copy(struct damage_store *to, const struct damage_store *from) {
    for (int i = 0; i < from->files; i++) {
        struct damage_file *f = &to->file[i];
        uint8_t *bytes = f->bytes ? f->bytes : crash_alloc(CRASH_FILE_MAX);
        *f = from->file[i];
        f->bytes = bytes;
        memcpy(bytes, from->file[i].bytes, f->size);
    }
    to->files = from->files;
    to->killed = from->killed;
    memcpy(to->part, from->part, sizeof to->part);
}
