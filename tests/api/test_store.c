/* SPDX-License-Identifier: MIT */
// Opening and closing stores: what is refused, what is left alone, forks, shutdown.
#include "leat.h"
#include "leat_test.h"
#include "lib/place.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static leat *mq;

static void make_store(void) {
    leat_topic *t;
    leat_producer *p;
    ok(leat_open(dir, NULL, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    ok(leat_close_all(mq, 0));
}

// Opening fails like this, and neither makes nor changes a file.
static void refused(int code, const char *words, const leat_options *o) {
    char *before = scratch_listing(root);
    mq = (leat *)(void *)before;
    fails_saying(code, words, leat_open(dir, o, &mq));
    cr_assert_null(mq, "NULL on failure");
    char *after = scratch_listing(root);
    cr_assert_str_eq(before, after, "a failing open changed the directory");
    free(before);
    free(after);
}

Test(store, opens_makes_and_opens_again, .init = make_root, .fini = drop_root) {
    ok(leat_open(dir, NULL, &mq)); // missing
    ok(leat_close(mq, 0));
    ok(leat_open(dir, NULL, &mq)); // a store
    ok(leat_close(mq, LEAT_FOREVER));
    ok(leat_open(dir, &(leat_options){ .flags = LEAT_MUST_EXIST }, &mq));
    ok(leat_close(mq, 1));
    struct stat st;
    char path[SCRATCH_PATH];
    cr_assert_eq(stat(dir, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0700u);
    static const char *const files[] = { "LOCK", "manifest", "slots" };
    for (int i = 0; i < 3; i++) {
        scratch_join(path, dir, "%s", files[i]);
        cr_assert_eq(stat(path, &st), 0);
        cr_assert_eq(st.st_mode & 07777, 0600u, "%s", files[i]);
    }
    scratch_join(dir, root, "empty");
    scratch_mkdir(dir);
    ok(leat_open(dir, &(leat_options){ 0 }, &mq)); // empty, zeroed options
    ok(leat_close_all(mq, 0));
    char slash[SCRATCH_PATH + 2];
    snprintf(slash, sizeof slash, "%s/", dir);
    ok(leat_open(slash, NULL, &mq));
    ok(leat_close(mq, 0));
}

Test(store, wrong_arguments_and_options_are_refused, .init = make_root, .fini = drop_root) {
    fails(LEAT_EINVAL, leat_open(dir, NULL, NULL));
    fails(LEAT_EINVAL, leat_open(NULL, NULL, &mq));
    fails(LEAT_EINVAL, leat_open("", NULL, &mq));
    fails(LEAT_EINVAL, leat_open_memory(NULL, NULL));
    fails(LEAT_EINVAL, leat_test_open(NULL));
    fails(LEAT_EINVAL, leat_close(NULL, 0));
    fails(LEAT_EINVAL, leat_close_all(NULL, 0));
    fails(LEAT_EINVAL, leat_shutdown(NULL));
    static const leat_options bad[] = {
        { .flags = LEAT_ALTER },
        { .flags = 0x80000000u },
        { .threads = 2 },
        { .threads = -1 },
        { .acks = -1 },
        { .acks = 4 },
        { .acks = -1 },
        { .clock = 4 },
        { .clock = -1 },
        { .clock = LEAT_CLOCK_JUMP }, // needs LEAT_NO_THREADS
        { .start_ms = -1 },
        { .memory_max_bytes = -3 },
        { .write = 3 },
        { .write = -1 },
        { .callbacks = 7 },
        { .reserved = { 1 } },
        { .reserved = { 0, 0, 0, 0, 0, 0, 0, 1 } },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        refused(LEAT_EINVAL, "", &bad[i]);
        fails(LEAT_EINVAL, leat_open_memory(&bad[i], &mq));
        cr_assert_null(mq);
    }
    cr_assert(!scratch_exists(dir));
    ok(leat_open_memory(NULL, &mq));
    fails(LEAT_EINVAL, leat_close(mq, -2));
    fails(LEAT_EINVAL, leat_close_all(mq, INT64_MIN));
    ok(leat_close(mq, 0));
}

Test(store, what_is_no_store_is_left_alone, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH], parent[SCRATCH_PATH];
    refused(LEAT_ENOENT, dir, &(leat_options){ .flags = LEAT_MUST_EXIST });
    snprintf(parent, sizeof parent, "%s", dir);
    scratch_join(dir, root, "no/store"); // the parent is missing
    refused(LEAT_ENOENT, dir, NULL);
    snprintf(dir, sizeof dir, "%s", parent);
    scratch_write(dir, "text", 4); // a file
    refused(LEAT_EINVAL, dir, NULL);
    scratch_remove(dir);
    scratch_mkdir(dir); // empty
    refused(LEAT_ENOENT, dir, &(leat_options){ .flags = LEAT_MUST_EXIST });
    static const char *const foreign[] = { "notes.txt", ".hidden", "manifest.old", "12x", "x12" };
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        scratch_join(path, dir, "%s", foreign[i]);
        scratch_write(path, "x", 1);
        refused(LEAT_EEXIST, dir, NULL);
        refused(LEAT_EEXIST, dir, &(leat_options){ .flags = LEAT_MUST_EXIST });
        scratch_remove(path);
    }
    scratch_join(path, dir, "17"); // the numbered directory of a topic, but no manifest
    scratch_mkdir(path);
    refused(LEAT_ECORRUPT, "rebuilt", NULL);
    scratch_join(path, dir, "notes.txt");
    scratch_write(path, "x", 1);
    refused(LEAT_ECORRUPT, "manifest", NULL);
}

Test(store, foreign_files_beside_a_manifest_are_left_alone, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH];
    make_store();
    static const char *const foreign[] = { "notes.txt", "99", "manifest.new~", "0x1" };
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        scratch_join(path, dir, "%s", foreign[i]);
        scratch_write(path, "mine", 4);
    }
    make_store();
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        size_t size;
        scratch_join(path, dir, "%s", foreign[i]);
        unsigned char *bytes = scratch_read(path, &size);
        cr_assert_str_eq((char *)bytes, "mine");
        free(bytes);
    }
    leat_topic *t;
    leat_range r;
    ok(leat_open(dir, NULL, &mq));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &t));
    ok(leat_topic_range(t, 0, &r));
    cr_assert_eq(r.end, 2);
    ok(leat_close_all(mq, 0));
}

Test(store, a_store_that_died_while_it_was_made_is_made_again, .init = make_root,
     .fini = drop_root) {
    static const char *const left[] = { "LOCK", "manifest.new", "slots" };
    for (unsigned mask = 0; mask < 8; mask++) {
        char path[SCRATCH_PATH];
        scratch_mkdir(dir);
        for (int i = 0; i < 3; i++) {
            scratch_join(path, dir, "%s", left[i]);
            if (mask & 1u << i)
                scratch_write(path,
                              "half made, and longer than a manifest's first bytes are, "
                              "so that its end would be seen behind them",
                              i == 0 ? 0 : 90);
        }
        make_store();
        make_store();
        scratch_remove(dir);
    }
}

Test(store, damaged_files_are_an_error_that_names_them, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH];
    make_store();
    scratch_join(path, dir, "manifest");
    size_t size;
    unsigned char *whole = scratch_read(path, &size);
    scratch_truncate(path, 0);
    refused(LEAT_ECORRUPT, "manifest", NULL);
    scratch_truncate(path, 100000); // zeros
    refused(LEAT_ECORRUPT, "manifest", NULL);
    scratch_write(path, "not a manifest at all, but long enough to be one", 48);
    refused(LEAT_ECORRUPT, "manifest", NULL);
    scratch_write(path, whole, size);
    scratch_poke(path, 8, "\7", 1);
    refused(LEAT_EINVAL, "version", NULL);
    scratch_remove(path);
    refused(LEAT_ECORRUPT, "manifest", NULL); // the numbered directories are still there
    scratch_mkdir(path);
    fails(LEAT_EIO, leat_open(dir, NULL, &mq)); // a directory in its place
    scratch_remove(path);
    cr_assert_eq(symlink("/dev/zero", path), 0);
    cr_assert_neq(leat_open(dir, NULL, &mq), 0, "a link in its place");
    scratch_remove(path);
    scratch_write(path, whole, size);
    make_store();
    free(whole);
}

Test(store, a_store_is_open_once, .init = make_root, .fini = drop_root) {
    leat *other;
    ok(leat_open(dir, NULL, &mq));
    fails_saying(LEAT_EBUSY, dir, leat_open(dir, NULL, &other));
    fails(LEAT_EBUSY, leat_open(dir, NULL, &other)); // failing twice frees nothing
    char twisted[SCRATCH_PATH];
    scratch_join(twisted, root, "../%s/store", strrchr(root, '/') + 1);
    fails(LEAT_EBUSY, leat_open(twisted, NULL, &other)); // by another path
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        leat *mine = NULL;
        _exit(leat_open(dir, NULL, &mine) == LEAT_EBUSY && !mine ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "from another process");
    char path[SCRATCH_PATH];
    scratch_join(path, dir, "LOCK");
    int fd = open(path, O_RDWR | O_CLOEXEC); // an unrelated close must not drop the lock
    cr_assert_geq(fd, 0);
    close(fd);
    fails(LEAT_EBUSY, leat_open(dir, NULL, &other));
    ok(leat_close(mq, 0));
    ok(leat_open(dir, NULL, &mq));
    ok(leat_close(mq, 0));
}

// ---- fork

static int in_child(leat *store, leat_topic *t, leat_producer *p, leat_consumer *c) {
    const leat_message *m;
    leat_topic *u;
    leat_producer *q;
    leat_consumer *d;
    leat_range r;
    leat_message none = { 0 };
    leat_record record = { .value = LEAT_STR("child") };
    int bad = 0;
    bad += leat_send(p, t, &record, NULL) != LEAT_EFORK;
    bad += leat_poll(c, 0, &m) != LEAT_EFORK;
    bad += leat_commit(c) != LEAT_EFORK;
    bad += leat_consumer_seek(c, "t", 0, 0) != LEAT_EFORK;
    bad += leat_consumer_subscribe(c, NULL) != LEAT_EFORK;
    bad += leat_consumer_positions(c, 0, NULL, 0) != LEAT_EFORK;
    bad += leat_topic_open(store, "t", NULL, &u) != LEAT_EFORK;
    bad += leat_topic_delete(store, "t") != LEAT_EFORK;
    bad += leat_topic_range(t, 0, &r) != LEAT_EFORK;
    bad += leat_producer_open(store, NULL, &q) != LEAT_EFORK;
    bad += leat_consumer_open(store, "g", NULL, &d) != LEAT_EFORK;
    bad += leat_message_hold(store, &none, &none) != LEAT_EFORK;
    bad += leat_message_release(store, &none) != LEAT_EFORK;
    bad += leat_clock_now(store, NULL, NULL) != LEAT_EFORK;
    bad += leat_shutdown(store) != LEAT_EFORK;
    leat *own;
    bad += leat_open_memory(NULL, &own) != 0; // a store of its own is fine
    bad += leat_topic_open(own, "t", NULL, &u) != 0;
    bad += leat_close_all(own, 0) != 0;
    bad += leat_close_all(store, 0) != 0; // frees memory only
    return bad;
}

Test(store, a_forked_child_has_no_store, .init = make_root, .fini = drop_root) {
    leat_topic *t;
    leat_producer *p;
    leat_consumer *c;
    const leat_message *m;
    ok(leat_open(dir, NULL, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    leat_record r = { .value = LEAT_STR("v") };
    ok(leat_send(p, t, &r, NULL));
    char *before = scratch_listing(root);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0)
        _exit(in_child(mq, t, p, c));
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d calls went wrong",
              WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    char *after = scratch_listing(root);
    cr_assert_str_eq(before, after);
    free(before);
    free(after);
    ok(leat_send(p, t, &r, NULL)); // the parent's is untouched
    gives(2, leat_poll(c, 0, &m));
    leat *other;
    fails(LEAT_EBUSY, leat_open(dir, NULL, &other)); // and still locked
    ok(leat_close_all(mq, 0));
}

// ---- close and shutdown

Test(store, close_names_what_is_still_open) {
    leat_producer *p[5];
    leat_consumer *c, *d;
    leat_topic *t;
    ok(leat_open_memory(NULL, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t)); // belongs to the store
    ok(leat_producer_open(mq, &(leat_producer_options){ .name = "till" }, &p[0]));
    ok(leat_consumer_open(mq, "billing", NULL, &c));
    ok(leat_consumer_open(mq, "billing", &(leat_consumer_options){ .name = "ann" }, &d));
    fails_saying(LEAT_EBUSY, "producer till", leat_close(mq, 0));
    fails_saying(LEAT_EBUSY, "consumer billing", leat_close(mq, 0));
    fails_saying(LEAT_EBUSY, "consumer ann", leat_close(mq, 0));
    for (int i = 1; i < 5; i++) {
        static char name[250];
        memset(name, 'n', 249);
        ok(leat_producer_open(mq, &(leat_producer_options){ .name = name }, &p[i]));
    }
    fails_saying(LEAT_EBUSY, "7 still open", leat_close(mq, 0));
    for (int i = 0; i < 5; i++)
        ok(leat_producer_close(p[i], 0));
    ok(leat_consumer_close(c));
    fails_saying(LEAT_EBUSY, "1 still open: consumer ann", leat_close(mq, 0));
    ok(leat_consumer_close(d));
    ok(leat_close(mq, 0));
}

Test(store, after_shutdown_everything_is_closed_but_can_be_closed) {
    leat_topic *t, *u;
    leat_producer *p, *q;
    leat_consumer *c, *d;
    leat_range range;
    const leat_message *m;
    leat_record r = { .value = LEAT_STR("v") };
    ok(leat_open_memory(&(leat_options){ .clock = LEAT_CLOCK_MANUAL }, &mq));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_consumer_open(mq, "g", NULL, &c));
    ok(leat_consumer_subscribe(c, "t"));
    ok(leat_send(p, t, &r, NULL));
    ok(leat_shutdown(mq));
    ok(leat_shutdown(mq)); // twice is once
    fails(LEAT_ECLOSED, leat_send(p, t, &r, NULL));
    fails(LEAT_ECLOSED, leat_poll(c, LEAT_FOREVER, &m));
    fails(LEAT_ECLOSED, leat_commit(c));
    fails(LEAT_ECLOSED, leat_consumer_subscribe(c, "t"));
    fails(LEAT_ECLOSED, leat_consumer_assign(c, NULL, 0));
    fails(LEAT_ECLOSED, leat_consumer_seek(c, "t", 0, 0));
    fails(LEAT_ECLOSED, leat_topic_open(mq, "t", NULL, &u));
    fails(LEAT_ECLOSED, leat_topic_delete(mq, "t"));
    fails(LEAT_ECLOSED, leat_topic_range(t, 0, &range));
    fails(LEAT_ECLOSED, leat_producer_open(mq, NULL, &q));
    fails(LEAT_ECLOSED, leat_consumer_open(mq, "g", NULL, &d));
    fails(LEAT_ECLOSED, leat_group_lag(mq, "g", NULL, 0, sizeof(leat_lag)));
    fails(LEAT_ECLOSED, leat_clock_advance(mq, 1));
    fails(LEAT_EBUSY, leat_close(mq, 0));
    ok(leat_consumer_close(c));
    ok(leat_close_all(mq, 0));
}

// ---- memory

static size_t allocated;

static void *counting(void *ctx, void *old, size_t size) {
    (void)ctx;
    if (size == 0) {
        allocated -= old != NULL;
        free(old);
        return NULL;
    }
    void *p = realloc(old, size);
    allocated += p && !old;
    return p;
}

Test(store, memory_comes_through_the_hook_and_all_of_it_goes_back, .init = make_root,
     .fini = drop_root) {
    leat_options o = { .alloc = counting, .clock = LEAT_CLOCK_MANUAL };
    for (int disk = 0; disk < 3; disk++) {
        leat_topic *t;
        leat_producer *p;
        leat_consumer *c;
        leat_message kept;
        const leat_message *m;
        allocated = 0;
        o.write = disk;
        if (disk)
            ok(leat_open(dir, &o, &mq));
        else
            ok(leat_open_memory(&o, &mq));
        ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 3 }, &t));
        ok(leat_producer_open(mq, &(leat_producer_options){ .name = "p" }, &p));
        ok(leat_consumer_open(mq, "g", &(leat_consumer_options){ .name = "c" }, &c));
        ok(leat_consumer_subscribe(c, "t"));
        for (int i = 0; i < 300; i++)
            ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
        cr_assert_gt(leat_poll(c, 0, &m), 0);
        ok(leat_message_hold(mq, m, &kept));
        ok(leat_commit(c));
        ok(leat_topic_delete(mq, "t"));
        ok(leat_topic_open(mq, "t", NULL, &t));
        cr_assert_gt(allocated, 10u);
        ok(leat_close_all(mq, 0));
        cr_assert_eq(allocated, 0u, "%zu left", allocated);
        scratch_remove(dir);
    }
}

Test(store, a_memory_store_is_bounded_and_deleting_makes_room) {
    static char big[100000];
    leat_topic *t;
    leat_producer *p;
    leat_metadata md;
    leat_record r = { .value = { big, sizeof big } };
    ok(leat_open_memory(&(leat_options){ .memory_max_bytes = 1000000 }, &mq));
    ok(leat_producer_open(mq, NULL, &p));
    for (int round = 0; round < 3; round++) {
        ok(leat_topic_open(mq, "t", NULL, &t));
        int rc, n = 0;
        while ((rc = leat_send(p, t, &r, &md)) == 0)
            n++;
        cr_assert_eq(rc, LEAT_EFULL);
        cr_assert(n >= 5 && n < 10, "%d", n);
        leat_range range;
        ok(leat_topic_range(t, 0, &range));
        cr_assert_eq(range.end, n, "what was refused is not there");
        cr_assert_eq(leat_send(p, t, &r, &md), LEAT_EFULL);
        ok(leat_topic_delete(mq, "t"));
    }
    ok(leat_close_all(mq, 0));
    ok(leat_open_memory(&(leat_options){ .memory_max_bytes = LEAT_UNLIMITED }, &mq));
    ok(leat_producer_open(mq, NULL, &p));
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_send(p, t, &r, NULL));
    ok(leat_close_all(mq, 0));
}

Test(store, the_clock_starts_where_it_is_told) {
    int64_t mono, wall;
    ok(leat_open_memory(&(leat_options){ .clock = LEAT_CLOCK_MANUAL, .start_ms = 42 }, &mq));
    ok(leat_clock_now(mq, &mono, &wall));
    cr_assert_eq(mono, 0);
    cr_assert_eq(wall, 42);
    ok(leat_close(mq, 0));
    ok(leat_test_open(&mq));
    ok(leat_clock_now(mq, NULL, &wall));
    cr_assert_eq(wall, INT64_C(1000000000000));
    ok(leat_close(mq, 0));
}

// ---- voices

static int events, said;
static char last_event[64];

static void on_trace(const leat_trace_event *e, void *ctx) {
    cr_assert_eq(ctx, &events);
    events++;
    snprintf(last_event, sizeof last_event, "%s", e->event);
}

static void on_log(int level, const char *text, void *ctx) {
    cr_assert_eq(ctx, &said);
    said += level > 0 && text[0] != '\0';
}

Test(store, trace_and_log_reach_their_callbacks, .init = make_root, .fini = drop_root) {
    leat_options o = { .trace = on_trace, .trace_ctx = &events, .log = on_log, .log_ctx = &said };
    leat_topic *t;
    leat_producer *p;
    ok(leat_open(dir, &o, &mq));
    cr_assert_str_eq(last_event, "open");
    ok(leat_topic_open(mq, "t", NULL, &t));
    ok(leat_producer_open(mq, NULL, &p));
    int before = events;
    ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
    cr_assert_gt(events, before);
    ok(leat_close_all(mq, 0));
    cr_assert_str_eq(last_event, "close");
    cr_assert_eq(said, 0);
    char path[SCRATCH_PATH];
    size_t size;
    scratch_join(path, dir, "manifest");
    unsigned char *all = scratch_read(path, &size);
    unsigned char *longer = calloc(1, size + 9);
    memcpy(longer, all, size);
    longer[size] = 7; // an unfinished note
    scratch_write(path, longer, size + 9);
    free(all);
    free(longer);
    ok(leat_open(dir, &o, &mq));
    cr_assert_eq(said, 1);
    ok(leat_close_all(mq, 0));
}
