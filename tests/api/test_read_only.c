/* SPDX-License-Identifier: MIT */
// A store that is looked at: beside an owner in this process or another one, or without.
#include "leat.h"
#include "lib/fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static leat *view;

static void use(void) {
    ok(fixture_open(dir, NULL, &(leat_topic_options){ .segment_bytes = 16384 },
                    &(leat_producer_options){ .acks = LEAT_ACKS_LOG }));
}

// Each record's text depends on its offset only, so that a reader knows what it must find.
static void text_of(int64_t offset, char text[96]) {
    snprintf(text, 96, "record %lld %.*s", (long long)offset, (int)(offset % 60),
             "............................................................");
}

static int send_next(leat_producer *by, leat_topic *to, int64_t offset) {
    char text[96];
    text_of(offset, text);
    return leat_send(by, to, &(leat_record){ .value = leat_str(text) }, NULL);
}

static void send_n(int n) {
    leat_range r;
    ok(leat_topic_range(t, 0, &r));
    for (int i = 0; i < n; i++)
        ok(send_next(p, t, r.end + i));
}

static int look(void) {
    return leat_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY }, &view);
}

// Reads all of the partition, checks each record, and tells how many there are.
static int64_t read_all(leat *from, int64_t *first) {
    leat_consumer *c;
    const leat_message *m;
    int64_t sum = 0;
    int n;
    ok(leat_consumer_open(from, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = LEAT_BEGIN }, 1));
    *first = -1;
    while ((n = leat_poll(c, 0, &m)) > 0) {
        *first = *first < 0 ? m[0].offset : *first;
        for (int i = 0; i < n; i++) {
            char text[96];
            text_of(m[i].offset, text);
            is(m[i].value, text);
        }
        sum += n;
    }
    ok(leat_consumer_close(c));
    return n < 0 ? n : sum;
}

Test(read_only, sees_the_store_as_of_the_open, .init = make_root, .fini = drop_root) {
    int64_t first;
    use();
    send_n(1000); // several segments
    ok(look());
    send_n(500);
    cr_assert_eq(read_all(view, &first), 1000);
    cr_assert_eq(first, 0);
    leat_stats s;
    ok(leat_get_stats(view, &s, sizeof s));
    cr_assert_eq(s.appended, 0);
    cr_assert_eq(s.read, 1000);
    ok(leat_close_all(view, 0));
    ok(look());
    cr_assert_eq(read_all(view, &first), 1500);
    ok(leat_close_all(view, 0));
    ok(leat_close_all(mq, 0));
    ok(look()); // without an owner; a second one beside it
    leat *other = view;
    ok(look());
    cr_assert_eq(read_all(view, &first), 1500);
    cr_assert_eq(read_all(other, &first), 1500);
    ok(leat_close_all(view, 0));
    use(); // an owner beside a view
    ok(leat_close_all(other, 0));
    ok(leat_close_all(mq, 0));
}

Test(read_only, what_would_write_is_refused, .init = make_root, .fini = drop_root) {
    use();
    leat_consumer *c;
    leat_producer *q;
    leat_queue *queue;
    leat_topic *topic;
    const leat_message *m;
    send_n(10);
    ok(leat_queue_open(mq, "q", NULL, &queue));
    ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .max_poll_records = 4 }, &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(4, leat_poll(c, 0, &m));
    ok(leat_commit(c));
    ok(leat_close_all(mq, 0));

    char *before = scratch_listing(dir);
    ok(look());
    leat_record r = { .value = LEAT_STR("x") };
    ok(leat_topic_open(view, "t", NULL, &topic));
    ok(leat_producer_open(view, NULL, &q));
    fails_saying(LEAT_EACCESS, "read-only", leat_send(q, topic, &r, NULL));
    fails_saying(LEAT_EACCESS, "read-only", leat_send_many(q, topic, &r, 1, NULL));
    fails_saying(LEAT_EACCESS, "read-only", leat_topic_open(view, "new", NULL, &topic));
    fails(LEAT_ENOENT,
          leat_topic_open(view, "new", &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &topic));
    ok(leat_topic_open(view, "t", NULL, &topic));
    fails_saying(LEAT_EACCESS, "read-only", leat_topic_delete(view, "t"));
    fails_saying(LEAT_EACCESS, "read-only", leat_topic_grow(topic, 2));
    fails_saying(LEAT_EACCESS, "read-only", leat_topic_delete_records(topic, 0, 5));
    fails_saying(LEAT_EACCESS, "read-only", leat_queue_open(view, "q", NULL, &queue));
    fails_saying(LEAT_EACCESS, "read-only", leat_queue_open(view, "new", NULL, &queue));
    fails_saying(LEAT_EACCESS, "read-only", leat_consumer_open(view, "new", NULL, &c));
    fails_saying(LEAT_EACCESS, "read-only", leat_sync(view));

    leat_position at;
    leat_lag lag;
    ok(leat_consumer_open(view, "g", NULL, &c)); // a group may read and see where it is
    ok(leat_consumer_subscribe(c, "t"));
    gives(6, leat_poll(c, 0, &m));
    cr_assert_eq(m[0].offset, 4);
    fails_saying(LEAT_EACCESS, "read-only", leat_commit(c));
    gives(1, leat_consumer_positions(c, 1, &at, 1));
    cr_assert_eq(at.offset, 4);
    gives(1, leat_group_lag(view, "g", &lag, 1, sizeof lag));
    cr_assert_eq(lag.lag, 6);
    ok(leat_close_all(view, 0));
    char *after = scratch_listing(dir);
    cr_assert_str_eq(before, after);
    free(before);
    free(after);
}

Test(read_only, where_there_is_no_store_nothing_is_made, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH];
    fails(LEAT_ENOENT, look());
    cr_assert(!scratch_exists(dir));
    scratch_mkdir(dir);
    fails(LEAT_ENOENT, look());
    scratch_join(path, dir, "LOCK");
    cr_assert(!scratch_exists(path));
    scratch_join(path, dir, "manifest"); // a pipe would keep who opens it waiting
    cr_assert_eq(mkfifo(path, 0600), 0);
    fails(LEAT_ECORRUPT, look());
    fails(LEAT_EINVAL, leat_open_memory(&(leat_options){ .flags = LEAT_READ_ONLY }, &view));
    fails(LEAT_EINVAL,
          leat_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY | LEAT_CRASHABLE }, &view));
}

Test(read_only, needs_no_permission_to_write, .init = make_root, .fini = drop_root) {
    int64_t first;
    char path[SCRATCH_PATH];
    static const char *const files[] = { "LOCK", "manifest", "slots", "1/0", "1", "" };
    use();
    send_n(1000);
    ok(leat_close_all(mq, 0));
    if (geteuid() == 0)
        cr_log_info("as root this shows nothing");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        scratch_join(path, dir, "%s", files[i]);
        (void)chmod(path, i < 3 ? 0400 : 0500);
    }
    int rc = look();
    int64_t n = rc == 0 ? read_all(view, &first) : 0;
    for (size_t i = sizeof files / sizeof files[0]; i-- > 0;) {
        scratch_join(path, dir, "%s", files[i]);
        (void)chmod(path, 0700);
    }
    ok(rc);
    cr_assert_eq(n, 1000);
    ok(leat_close_all(view, 0));
}

Test(read_only, leaves_an_unfinished_tail_where_it_is, .init = make_root, .fini = drop_root) {
    char copy[SCRATCH_PATH], path[SCRATCH_PATH];
    int64_t first;
    use();
    send_n(50);
    scratch_join(copy, root, "copy");
    scratch_copy(dir, copy); // as kill -9 would leave it
    ok(leat_close_all(mq, 0));
    scratch_join(path, copy, "1/0/00000000000000000000.log");
    if (!scratch_exists(path))
        scratch_join(path, copy, "2/0/00000000000000000000.log");
    size_t size, at;
    unsigned char *bytes = scratch_read(path, &size);
    for (at = size; bytes[at - 1] == 0; at--)
        ;
    scratch_poke(path, at - 6, "?", 1); // in the last record
    snprintf(dir, sizeof dir, "%s", copy);
    char *before = scratch_listing(dir);
    for (int i = 0; i < 2; i++) {
        ok(look());
        cr_assert_eq(read_all(view, &first), 49);
        ok(leat_close_all(view, 0));
    }
    char *after = scratch_listing(dir);
    cr_assert_str_eq(before, after);
    free(before);
    free(after);
    free(bytes);
}

Test(read_only, damage_is_an_error_and_can_be_left_out, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH];
    int64_t first;
    use();
    send_n(600);
    ok(leat_sync(mq));
    ok(leat_close_all(mq, 0));
    scratch_join(path, dir, "1/0/00000000000000000000.log");
    if (!scratch_exists(path))
        scratch_join(path, dir, "2/0/00000000000000000000.log");
    scratch_poke(path, 4096 + 1000, "?????????", 9);
    ok(look());
    cr_assert_eq(read_all(view, &first), LEAT_ECORRUPT);
    ok(leat_close_all(view, 0));
    ok(leat_open(dir, &(leat_options){ .flags = LEAT_READ_ONLY | LEAT_SKIP_ROT }, &view));
    int64_t n = read_all(view, &first);
    cr_assert(n >= 598 && n < 600, "%lld", (long long)n);
    ok(leat_close_all(view, 0));
}

// Behind a gap that nobody states stands a segment of which no record can be read.
Test(read_only, a_segment_of_which_nothing_is_left_is_left_out, .init = make_root,
     .fini = drop_root) {
    char path[2][SCRATCH_PATH];
    int64_t first, found = 0;
    size_t size;
    use();
    send_n(600);
    ok(leat_sync(mq));
    ok(leat_close_all(mq, 0));
    for (int64_t base = 0; base < 600; base++) { // the last two
        char name[SCRATCH_PATH];
        scratch_join(name, dir, "1/0/%020lld.log", (long long)base);
        if (scratch_exists(name))
            memcpy(path[found++ & 1], name, sizeof name);
    }
    cr_assert_gt(found, 2);
    free(scratch_read(path[found & 1], &size)); // a sealed one, which ends too early
    scratch_truncate(path[found & 1], size - 200);
    unsigned char *bytes = scratch_read(path[(found + 1) & 1], &size);
    memset(bytes + 4096, 0x55, size - 4096);
    scratch_write(path[(found + 1) & 1], bytes, size);
    free(bytes);
    memcpy(strstr(path[(found + 1) & 1], ".log"), ".idx", 4); // which would say what there was
    scratch_remove(path[(found + 1) & 1]);
    for (uint32_t flags = LEAT_READ_ONLY;; flags = 0) { // an owner finds no more
        ok(leat_open(dir, &(leat_options){ .flags = flags | LEAT_SKIP_ROT }, &view));
        int64_t n = read_all(view, &first);
        cr_assert(n > 300 && n < 590, "%lld: %s", (long long)n, leat_errmsg());
        leat_topic *seen;
        leat_range r;
        ok(leat_topic_open(view, "t", NULL, &seen));
        ok(leat_topic_range(seen, 0, &r));
        cr_assert_eq(r.end, 600);
        ok(leat_close_all(view, 0));
        if (flags == 0)
            break;
    }
}

Test(read_only, a_record_that_was_deleted_since_is_no_crash, .init = make_root, .fini = drop_root) {
    int64_t first;
    use();
    send_n(2000);
    ok(look());
    ok(leat_topic_delete_records(t, 0, 1500));
    cr_assert_eq(read_all(view, &first), LEAT_ENOENT); // its files are gone
    leat_consumer *c;
    const leat_message *m;
    ok(leat_consumer_open(view, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = 1600 }, 1));
    gives(400, leat_poll(c, 0, &m));
    ok(leat_close_all(view, 0));
    ok(look());
    cr_assert_eq(read_all(view, &first), 500);
    cr_assert_eq(first, 1500);
    ok(leat_topic_delete(mq, "t"));
    (void)read_all(view, &first);
    ok(leat_close_all(view, 0));
    ok(leat_close_all(mq, 0));
}

// ---- an owner at work

static atomic_bool stop;

// Appends, rolls, syncs, deletes from the front, makes and deletes topics, until it is told to end.
static void *own(void *arg) {
    leat_topic *other = NULL;
    int rc = 0;
    (void)arg;
    for (int64_t n = 0; rc == 0 && !atomic_load(&stop); n++) {
        rc = send_next(p, t, n);
        if (rc == 0 && n % 100 == 99)
            rc = leat_sync(mq);
        if (rc == 0 && n % 150 == 149)
            rc = leat_topic_delete_records(t, 0, n - 100);
        if (rc == 0 && n % 900 == 100)
            rc = leat_topic_open(mq, "other", NULL, &other);
        if (rc == 0 && n % 900 == 200)
            rc = leat_send(p, other, &(leat_record){ .value = LEAT_STR("x") }, NULL);
        if (rc == 0 && n % 900 == 800)
            rc = leat_topic_delete(mq, "other");
    }
    return rc == 0 ? NULL : &stop;
}

// One look: whatever is read is right, and an error is one of those that are promised.
static void look_once(int *whole) {
    int64_t first = -1;
    leat_topic *seen;
    leat_range r;
    ok(look());
    ok(leat_topic_open(view, "t", NULL, &seen));
    ok(leat_topic_range(seen, 0, &r));
    int64_t n = read_all(view, &first);
    cr_assert(n >= 0 || n == LEAT_ENOENT || n == LEAT_ECORRUPT, "%s", leat_errmsg());
    if (n > 0) {
        cr_assert_eq(first, r.begin);
        cr_assert_eq(n, r.end - r.begin);
    }
    *whole += n > 0;
    ok(leat_close_all(view, 0));
}

Test(read_only, beside_an_owner_at_work_nothing_wrong_is_read, .init = make_root,
     .fini = drop_root) {
    pthread_t thread;
    void *failed = NULL;
    int whole = 0;
    use();
    send_n(1);
    ok(leat_topic_delete(mq, "t"));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = 16384 }, &t));
    atomic_store(&stop, false);
    cr_assert_eq(pthread_create(&thread, NULL, own, NULL), 0);
    for (int i = 0; i < 200 || whole == 0; i++) // until the owner has had its turn
        look_once(&whole);
    atomic_store(&stop, true);
    cr_assert_eq(pthread_join(thread, &failed), 0);
    cr_assert_null(failed);
    cr_assert_gt(whole, 0);
    ok(leat_close_all(mq, 0));
}

Test(read_only, beside_an_owner_in_another_process, .init = make_root, .fini = drop_root) {
    int fds[2], status, whole = 0;
    char byte;
    cr_assert_eq(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) { // works until the other end is closed
        leat *own_mq;
        leat_topic *own_t;
        leat_producer *own_p;
        (void)close(fds[1]);
        int rc = leat_open(dir, NULL, &own_mq);
        if (rc == 0)
            rc = leat_topic_open(own_mq, "t", &(leat_topic_options){ .segment_bytes = 16384 },
                                 &own_t);
        if (rc == 0)
            rc = leat_producer_open(own_mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG },
                                    &own_p);
        for (int64_t n = 0; rc == 0; n++) {
            rc = send_next(own_p, own_t, n);
            if (n == 3000) // the rest while others look
                rc = read(fds[0], &byte, 1) == 1 ? 0 : 1;
            if (n > 3000 && n % 1000 == 0)
                rc = leat_topic_delete_records(own_t, 0, n - 600);
            if (n == 30000)
                break;
        }
        _exit(rc == 0 ? 0 : 1);
    }
    int64_t first, n = 0;
    for (int i = 0; i < 100000 && n < 3001; i++) { // until it has made them
        if (look() != 0)
            continue;
        leat_topic *seen;
        leat_range r = { 0 };
        if (leat_topic_open(view, "t", NULL, &seen) == 0) {
            ok(leat_topic_range(seen, 0, &r));
            n = r.end;
        }
        ok(leat_close_all(view, 0));
    }
    cr_assert_eq(n, 3001);
    ok(look());
    cr_assert_eq(read_all(view, &first), 3001);
    ok(leat_close_all(view, 0));
    cr_assert_eq(write(fds[1], "x", 1), 1);
    for (int i = 0; i < 50; i++)
        look_once(&whole);
    (void)close(fds[0]);
    (void)close(fds[1]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
