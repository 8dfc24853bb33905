/* SPDX-License-Identifier: MIT */
// leat_rebuild_manifest: after it the store opens and all records are there; whatever fails on the
// way, it can be done again.
#include "leat.h"
#include "lib/copy.h"
#include "lib/report.h"
#include "log/format.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static char was[1 << 16], is_now[1 << 16];
static leat *mq;

static int rebuild(const char *at) {
    report_begin();
    return leat_rebuild_manifest(at, NULL, report_take, NULL);
}

static int no_sync(struct lt_os *os, int fd, bool is_dir) {
    (void)os, (void)fd, (void)is_dir;
    return 0;
}

// What is looked at is the page cache, so that syncs would only cost time.
static int open_at(const char *at, uint32_t flags) {
    static struct lt_os os;
    os = *lt_os_system();
    os.sync = no_sync;
    return lt_store_open(at, &(leat_options){ .flags = flags, .seed = 1 }, &os, &mq);
}

static void send_n(const char *topic, int32_t partitions, int n) {
    leat_topic *t;
    leat_producer *p;
    leat_topic_options o = { .segment_bytes = 16384, .partitions = partitions };
    if (leat_topic_open(mq, topic, &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &t) != 0)
        ok(leat_topic_open(mq, topic, &o, &t));
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < n; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s %d ................................", topic, i);
        ok(leat_send(p, t,
                     &(leat_record){ .value = leat_str(text),
                                     .to_partition = LEAT_PARTITION(i % partitions) },
                     NULL));
    }
    ok(leat_producer_close(p, 0));
}

// Writes what is in one partition: its range, how many records, a sum of what they say.
static void tell(char out[], size_t size, size_t *at, const char *topic, int32_t partition) {
    leat_topic *t;
    leat_range r;
    leat_consumer *c;
    const leat_message *m;
    uint64_t sum = 0;
    int n, count = 0;
    ok(leat_topic_open(mq, topic, NULL, &t));
    ok(leat_topic_range(t, partition, &r));
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(
        c, &(leat_position){ .topic = topic, .partition = partition, .offset = LEAT_BEGIN }, 1));
    while ((n = leat_poll(c, 0, &m)) > 0) {
        for (int i = 0; i < n; i++, count++) {
            sum = sum * 31 + (uint64_t)m[i].offset;
            for (size_t k = 0; k < m[i].value.size; k++)
                sum = sum * 31 + ((const unsigned char *)m[i].value.data)[k];
        }
    }
    cr_assert_eq(n, 0, "%s", leat_errmsg());
    ok(leat_consumer_close(c));
    *at += (size_t)snprintf(out + *at, size - *at, "%s/%d: %lld to %lld, %d records, %llx\n", topic,
                            partition, (long long)r.begin, (long long)r.end, count,
                            (unsigned long long)sum);
}

static void tell_all(char out[], size_t size) {
    size_t at = 0;
    for (int32_t i = 0; i < 3; i++)
        tell(out, size, &at, "orders", i);
    tell(out, size, &at, "gap", 0);
    tell(out, size, &at, "jobs", 0);
}

static void poke(const char *at, const char *name, size_t where) {
    char path[SCRATCH_PATH];
    scratch_join(path, at, "%s", name);
    scratch_poke(path, where, "?", 1);
}

// Topics with several partitions, with deleted records, with a gap, of a queue; one that was
// deleted; a group.
static void fill(void) {
    leat_topic *t;
    leat_queue *q;
    leat_message m;
    leat_consumer *c;
    const leat_message *ms;
    char path[SCRATCH_PATH];
    size_t size;
    ok(open_at(dir, 0));
    send_n("orders", 3, 900);
    ok(leat_topic_open(mq, "orders", NULL, &t));
    ok(leat_topic_delete_records(t, 1, 200));
    send_n("gap", 1, 20);
    send_n("deleted", 1, 20);
    ok(leat_topic_delete(mq, "deleted"));
    ok(leat_queue_open(mq, "jobs", NULL, &q));
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("job") }, NULL));
    gives(1, leat_queue_receive(q, 0, &m, 1));
    ok(leat_queue_ack(q, &m));
    ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("job 2") }, NULL));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "orders"));
    cr_assert_gt(leat_poll(c, 0, &ms), 0);
    ok(leat_commit(c));
    ok(leat_close_all(mq, 0));
    scratch_join(path, dir, "2/0/00000000000000000000.log");
    free(scratch_read(path, &size));
    scratch_truncate(path, size - 100); // the last records are lost
    ok(open_at(dir, LEAT_SKIP_ROT));
    send_n("gap", 1, 5);
    tell_all(was, sizeof was);
    ok(leat_close_all(mq, 0));
}

// The store at `copy` has all that it had, and takes more, under ids that were never used.
static void holds_all(bool rebuilt) {
    static const char *const ids[] = { "1", "2", "3", "4", "5", "6" };
    char path[SCRATCH_PATH];
    int before = 0, after = 0;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        scratch_join(path, copy, "%s", ids[i]);
        before += scratch_exists(path);
    }
    ok(open_at(copy, 0));
    tell_all(is_now, sizeof is_now);
    cr_assert_str_eq(was, is_now);
    send_n("new", 1, 3);
    send_n("orders", 3, 3);
    ok(leat_close_all(mq, 0));
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        scratch_join(path, copy, "%s", ids[i]);
        after += scratch_exists(path);
    }
    cr_assert_eq(before, after);
    unsigned char *page = NULL; // of the new topic, whose id is far behind the others
    for (int id = 65536; id < 65700 && !page; id++) {
        size_t size;
        scratch_join(path, copy, "%d/0/00000000000000000000.log", id);
        if (scratch_exists(path))
            page = scratch_read(path, &size);
    }
    struct lt_segment_head head;
    if (rebuilt) {
        cr_assert_not_null(page);
        cr_assert_eq(lt_segment_head_get(page, &head), 0);
        cr_assert_str_eq(head.topic, "new");
        cr_assert_gt(head.uid, UINT64_C(1) << 32);
    }
    free(page);
    cr_assert_eq(leat_verify(copy, NULL, NULL, NULL), 0);
    ok(open_at(copy, 0));
    ok(leat_close_all(mq, 0));
}

Test(rebuild, a_lost_manifest_is_made_again, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH], kept[SCRATCH_PATH];
    fill();
    fresh();
    char *before = scratch_listing(copy);
    fails_saying(LEAT_EEXIST, "sound", rebuild(copy));
    char *after = scratch_listing(copy);
    cr_assert_str_eq(before, after);
    free(before);
    free(after);
    scratch_join(path, copy, "manifest");
    scratch_remove(path);
    fails_saying(LEAT_ECORRUPT, "rebuilt", open_at(copy, 0));
    gives(3, rebuild(copy));
    says("topic orders, id 1: 3 partitions");
    says("topic gap, id 2: 1 partitions");
    says("topic jobs, id 4: 1 partitions");
    says("queue id 5: its name");
    says("group id 6: its name");
    holds_all(true);
    fails(LEAT_EEXIST, rebuild(copy));
    scratch_join(kept, copy, "manifest.lost");
    cr_assert(!scratch_exists(kept));
    for (int i = 1; i <= 3; i++) { // damaged again and again: each is kept
        poke(copy, "manifest", 40);
        cr_assert_gt(rebuild(copy), 0);
        cr_assert(scratch_exists(kept));
        scratch_join(kept, copy, "manifest.lost%d", i + 1);
        cr_assert(!scratch_exists(kept));
    }
    ok(open_at(copy, 0));
    tell_all(is_now, sizeof is_now);
    ok(leat_close_all(mq, 0));
}

Test(rebuild, wherever_the_manifest_was_cut, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH];
    size_t size;
    int rebuilt = 0, sound = 0;
    fill();
    scratch_join(path, dir, "manifest");
    free(scratch_read(path, &size));
    for (size_t at = 0; at <= size; at += 64) {
        fresh();
        scratch_join(path, copy, "manifest");
        scratch_truncate(path, at);
        int opened = leat_open(copy, &(leat_options){ .flags = LEAT_READ_ONLY }, &mq);
        if (opened == 0)
            ok(leat_close_all(mq, 0));
        int rc = rebuild(copy);
        cr_assert_eq(rc, opened == 0 ? LEAT_EEXIST : 3, "cut at %zu: %d %s", at, rc, leat_errmsg());
        if (opened == 0)
            sound++;
        else
            rebuilt++;
        holds_all(opened != 0);
    }
    cr_assert_gt(rebuilt, 3);
    fresh();
    unsigned char garbage[700];
    for (size_t k = 0; k < sizeof garbage; k++)
        garbage[k] = (unsigned char)(k * 37 + 11);
    scratch_join(path, copy, "manifest");
    scratch_write(path, garbage, sizeof garbage);
    gives(3, rebuild(copy));
    holds_all(true);
}

Test(rebuild, two_topics_of_one_name_keep_their_records, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH], other[SCRATCH_PATH];
    ok(open_at(dir, 0));
    send_n("t", 1, 10);
    fresh(); // its files, as a deletion that died would leave them
    ok(leat_topic_delete(mq, "t"));
    send_n("t", 1, 20);
    ok(leat_close_all(mq, 0));
    scratch_join(path, dir, "1");
    scratch_join(other, copy, "1");
    scratch_copy(other, path);
    scratch_join(path, dir, "manifest");
    scratch_remove(path);
    gives(2, rebuild(dir));
    says("t.id1");
    ok(open_at(dir, 0));
    leat_topic *t;
    leat_range r;
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &t));
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.end, 20);
    ok(leat_topic_open(mq, "t.id1", &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &t));
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.end, 10);
    ok(leat_close_all(mq, 0));
}

Test(rebuild, wrong_arguments_an_owner_and_no_store, .init = make_root, .fini = drop_root) {
    fails(LEAT_EINVAL, rebuild(NULL));
    fails(LEAT_EINVAL, rebuild(""));
    fails(LEAT_EINVAL, leat_rebuild_manifest(dir, &(leat_options){ .callbacks = 7 }, NULL, NULL));
    fails(LEAT_EINVAL,
          leat_rebuild_manifest(dir, &(leat_options){ .flags = LEAT_READ_ONLY }, NULL, NULL));
    fails(LEAT_ENOENT, rebuild(dir));
    cr_assert(!scratch_exists(dir));
    scratch_mkdir(dir);
    fails(LEAT_ENOENT, rebuild(dir));
    char path[SCRATCH_PATH];
    scratch_join(path, dir, "notes.txt");
    scratch_write(path, "x", 1);
    fails(LEAT_ENOENT, rebuild(dir));
    scratch_join(path, dir, "LOCK");
    cr_assert(!scratch_exists(path)); // nothing was made in somebody's directory
    scratch_remove(dir);
    ok(open_at(dir, 0));
    fails(LEAT_EBUSY, rebuild(dir));
    ok(leat_close_all(mq, 0));
    poke(dir, "manifest", 10); // a store without a topic; a later version is none of ours
    fails(LEAT_EINVAL, rebuild(dir));
    poke(dir, "manifest", 3);
    ok(leat_rebuild_manifest(dir, NULL, NULL, NULL));
    ok(open_at(dir, 0));
    ok(leat_close_all(mq, 0));
}

// ---- the n-th call that changes something fails, and so do all behind it: as if it had died

static int left;
static bool for_good;

static bool dead(void) {
    return for_good ? left-- <= 0 : left-- == 0;
}
static int die_rename(struct lt_os *o, int at, const char *from, const char *to) {
    return dead() ? -EIO : lt_os_system()->rename(o, at, from, to);
}
static int64_t die_pwrite(struct lt_os *o, int fd, const void *buf, size_t n, int64_t at) {
    return dead() ? -EIO : lt_os_system()->pwrite(o, fd, buf, n, at);
}
static int die_sync(struct lt_os *o, int fd, bool is_dir) {
    (void)o, (void)fd, (void)is_dir;
    return dead() ? -EIO : 0;
}

Test(rebuild, may_die_at_any_step, .init = make_root, .fini = drop_root) {
    struct lt_os os = *lt_os_system();
    os.rename = die_rename;
    os.pwrite = die_pwrite;
    os.sync = die_sync;
    fill();
    int steps = 0;
    char path[SCRATCH_PATH];
    for_good = true;
    for (int rc = LEAT_EIO; rc < 0; steps++) {
        fresh();
        poke(copy, "manifest", 40);
        left = steps;
        rc = lt_rebuild_store(copy, NULL, &os, NULL, NULL);
        cr_assert(rc == 3 || rc == LEAT_EIO, "%d: %s", rc, leat_errmsg());
        int again = rebuild(copy);
        cr_assert(again == 3 || again == LEAT_EEXIST, "step %d: %s", steps, leat_errmsg());
        holds_all(true);
        scratch_join(path, copy, "manifest.lost");
        cr_assert(scratch_exists(path), "step %d", steps);
    }
    cr_assert_gt(steps, 4);
    for_good = false; // one call fails: a manifest has the name whatever comes of it
    for (int step = 0; step < steps - 1; step++) {
        fresh();
        poke(copy, "manifest", 40);
        left = step;
        fails(LEAT_EIO, lt_rebuild_store(copy, NULL, &os, NULL, NULL));
        scratch_join(path, copy, "manifest");
        cr_assert(scratch_exists(path), "step %d", step);
    }
}
