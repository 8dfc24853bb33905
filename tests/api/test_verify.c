/* SPDX-License-Identifier: MIT */
// leat_verify: says of a whole store that it is whole, and finds whatever was damaged in another.
#include "leat.h"
#include "leat_test.h"
#include "lib/copy.h"
#include "lib/fixture.h"
#include "lib/report.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static int verify(const char *at) {
    report_begin();
    return leat_verify(at, NULL, report_take, NULL);
}

#define finds(count, at)                                                                           \
    do {                                                                                           \
        int finds_rc_ = verify(at);                                                                \
        cr_assert_eq(finds_rc_, (count), "%d damaged ranges: %s\n%s", finds_rc_,                   \
                     finds_rc_ < 0 ? leat_errmsg() : "", report);                                  \
    } while (0)

static void send_n(int n) {
    for (int i = 0; i < n; i++)
        ok(leat_send(
            p, t, &(leat_record){ .value = LEAT_STR("a record of some fifty bytes, as they are") },
            NULL));
}

static void use(void) {
    ok(fixture_open(dir, NULL, &(leat_topic_options){ .segment_bytes = 16384 },
                    &(leat_producer_options){ .acks = LEAT_ACKS_LOG }));
}

// Three sealed segments and an active one, a queue, a group; and a copy to be damaged.
static void fill(void) {
    leat_queue *q;
    leat_message m;
    leat_consumer *c;
    const leat_message *ms;
    use();
    send_n(500);
    ok(leat_queue_open(mq, "q", NULL, &q));
    for (int i = 0; i < 10; i++)
        ok(leat_queue_send(q, &(leat_record){ .value = LEAT_STR("job") }, NULL));
    for (int i = 0; i < 5; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
    }
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    cr_assert_gt(leat_poll(c, 0, &ms), 0);
    ok(leat_commit(c));
    ok(leat_close_all(mq, 0));
}

static void file(char path[SCRATCH_PATH], const char *name) {
    scratch_join(path, copy, "%s", name);
}

// Finds the n-th segment of topic id 1.
static void segment(char path[SCRATCH_PATH], int n, const char *suffix) {
    static const int64_t none = -1;
    int64_t base = none;
    for (int64_t at = 0; at < 2000 && n >= 0; at++) {
        scratch_join(path, copy, "1/0/%020lld.log", (long long)at);
        if (scratch_exists(path) && n-- == 0)
            base = at;
    }
    cr_assert_neq(base, none);
    scratch_join(path, copy, "1/0/%020lld%s", (long long)base, suffix);
}

Test(verify, a_whole_store_is_whole, .init = make_root, .fini = drop_root) {
    fill();
    char *before = scratch_listing(dir);
    finds(0, dir);
    says("manifest: 2 topics, 1 queues, 1 groups\n");
    says("topic t, id 1: 1 partitions, 500 records, 0 damaged ranges\n");
    says("1/0/00000000000000000000.log: offsets 0 to ");
    says("sealed, index sound\n");
    says("not sealed, no index\n");
    says(".q3: 5 words, 0 of them garbage\n");
    says("whole\n");
    char *after = scratch_listing(dir);
    cr_assert_str_eq(before, after);
    free(before);
    free(after);
    use(); // beside an owner; a killed one
    send_n(100);
    finds(0, dir);
    says("600 records");
    fresh();
    finds(0, copy);
    ok(leat_topic_delete_records(t, 0, 300));
    finds(0, dir);
    ok(leat_topic_delete(mq, "t"));
    finds(0, dir);
    ok(leat_close_all(mq, 0));
    finds(0, dir);
    scratch_remove(copy);
    ok(leat_open(copy, NULL, &mq)); // an empty one
    finds(0, copy);
    ok(leat_close_all(mq, 0));
    finds(0, copy);
}

Test(verify, each_kind_of_damage_is_found, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH];
    size_t size;
    fill();
    fresh(); // a record in a sealed segment, its header and its body
    segment(path, 1, ".log");
    scratch_poke(path, 4096 + 80 * 3 + 40, "?", 1);
    finds(1, copy);
    says("cannot be read");
    scratch_poke(path, 4096 + 80 * 7 + 2, "?", 1);
    finds(2, copy);
    fresh(); // one that was on disk at the end of the log
    segment(path, 3, ".log");
    free(scratch_read(path, &size));
    scratch_poke(path, size - 20, "?", 1);
    finds(1, copy);
    says("offsets 499 to 499");
    fresh();
    scratch_truncate(path, size - 200);
    finds(1, copy);
    fresh(); // a header page
    segment(path, 1, ".log");
    scratch_poke(path, 100, "?", 1);
    finds(1, copy);
    says("no valid header page");
    fresh(); // a segment is missing, in the middle and at the end
    segment(path, 1, ".log");
    scratch_remove(path);
    finds(1, copy);
    says("are missing");
    fresh();
    segment(path, 3, ".log");
    scratch_remove(path);
    finds(1, copy);
    fresh();
    segment(path, 0, ".log");
    scratch_remove(path);
    finds(1, copy);
    fresh(); // the manifest, and a slot
    file(path, "manifest");
    scratch_poke(path, 40, "?", 1);
    finds(1, copy);
    says("manifest: DAMAGED");
    says("500 records");
    scratch_remove(path);
    finds(1, copy);
    fresh();
    file(path, "slots");
    scratch_poke(path, 30, "?", 1);
    scratch_poke(path, 4096 + 30, "?", 1);
    scratch_poke(path, 8192 + 30, "?", 1);
    cr_assert_gt(verify(copy), 0);
    says("slots lost: 1");
    fresh();
    scratch_remove(path);
    finds(1, copy);
    says("slots: DAMAGED: the file is missing");
}

Test(verify, what_is_no_damage_is_said, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH], other[SCRATCH_PATH];
    size_t size, n;
    fill();
    fresh(); // an index is a help only
    segment(path, 1, ".idx");
    scratch_poke(path, 100, "?", 1);
    finds(0, copy);
    says("index unsound");
    scratch_remove(path);
    finds(0, copy);
    says("no index");
    segment(other, 2, ".idx"); // another segment's
    unsigned char *bytes = scratch_read(other, &size);
    scratch_write(path, bytes, size);
    free(bytes);
    finds(0, copy);
    says("index unsound");
    fresh(); // words
    scratch_join(path, copy, "2/0/00000000000000000000.q3");
    scratch_poke(path, 3 * 8, "????????", 8);
    finds(0, copy);
    says(".q3: 5 words, 1 of them garbage");
    fresh(); // a tail
    file(path, "manifest");
    bytes = scratch_read(path, &n);
    free(bytes);
    scratch_poke(path, n, "unfinished", 10);
    finds(0, copy);
    says("manifest: an unfinished tail of 10 bytes");
    scratch_remove(dir);
    use();
    send_n(10); // never synced
    fresh();
    ok(leat_close_all(mq, 0));
    segment(path, 0, ".log");
    scratch_poke(path, 4096 + 80 * 8 + 40, "?", 1);
    finds(0, copy);
    says("an unfinished tail behind offset 7\n");
    scratch_poke(path, 40, "?", 1);
    finds(0, copy);
    says("no valid header page");
}

static int refuse(const void *data, size_t size, void *ctx) {
    (void)data;
    (void)size;
    return --*(int *)ctx > 0 ? 0 : 1;
}

Test(verify, wrong_arguments_and_what_is_no_store, .init = make_root, .fini = drop_root) {
    fails(LEAT_EINVAL, leat_verify(NULL, NULL, NULL, NULL));
    fails(LEAT_EINVAL, leat_verify("", NULL, NULL, NULL));
    fails(LEAT_EINVAL, leat_verify(dir, &(leat_options){ .callbacks = 7 }, NULL, NULL));
    fails(LEAT_ENOENT, leat_verify(dir, NULL, NULL, NULL));
    cr_assert(!scratch_exists(dir));
    scratch_mkdir(dir);
    fails(LEAT_ENOENT, leat_verify(dir, NULL, NULL, NULL));
    scratch_remove(dir);
    fill();
    ok(leat_verify(dir, NULL, NULL, NULL));
    int n = 1;
    for (int lines = 1; n <= 0 || lines == 1; lines++) {
        n = lines;
        int rc = leat_verify(dir, NULL, refuse, &n);
        cr_assert_eq(rc, n > 0 ? 0 : LEAT_EIO);
        if (n > 0)
            break;
    }
    cr_assert_gt(n, 0);
}

// Wherever a byte is flipped: verify never crashes, and calls no store whole that does not open.
Test(verify, any_byte_may_be_flipped, .init = make_root, .fini = drop_root) {
    static const char *const names[] = { "manifest",
                                         "slots",
                                         "1/0/00000000000000000000.log",
                                         "1/0/00000000000000000000.idx",
                                         "2/0/00000000000000000000.log",
                                         "2/0/00000000000000000000.q3" };
    uint64_t seed = 1;
    const char *asked = getenv("LEAT_VERIFY_FLIPS"), *from = getenv("LEAT_VERIFY_SEED");
    int flips = asked ? atoi(asked) : 300;
    seed = from ? strtoull(from, NULL, 10) : seed;
    fill();
    fresh();
    for (int i = 0; i < flips; i++) {
        char path[SCRATCH_PATH];
        size_t size;
        file(path, names[(size_t)i % (sizeof names / sizeof names[0])]);
        unsigned char *bytes = scratch_read(path, &size);
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(seed >> 20) % size;
        if (i % 12 < 6 && size > 8192) // where there is something
            at %= 8192;
        unsigned char flipped = bytes[at] ^ (unsigned char)(1u << (seed >> 61));
        scratch_poke(path, at, &flipped, 1);
        int rc = verify(copy), opened;
        cr_assert(rc >= 0 || rc == LEAT_EINVAL, "%s %zu: %s", names[i % 6], at, leat_errmsg());
        opened = leat_open(copy, &(leat_options){ .flags = LEAT_READ_ONLY }, &mq);
        if (opened == 0)
            ok(leat_close_all(mq, 0));
        cr_assert(rc != 0 || opened == 0, "%s byte %zu: %s\n%s", names[i % 6], at, leat_errmsg(),
                  report);
        scratch_poke(path, at, &bytes[at], 1);
        free(bytes);
    }
}
