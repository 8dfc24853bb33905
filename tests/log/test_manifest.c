/* SPDX-License-Identifier: MIT */
// The manifest: what exists survives, an unfinished last note is cut, damage is an error, and no id
// is ever given twice.
#include "base/bytes.h"
#include "lib/scratch.h"
#include "log/log.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static char root[SCRATCH_PATH], dir[SCRATCH_PATH], copy[SCRATCH_PATH], path[SCRATCH_PATH];
static leat *mq;

static void make_root(void) {
    scratch_make(root);
    scratch_join(dir, root, "store");
    scratch_join(copy, root, "copy");
    scratch_join(path, dir, "manifest");
}

static void drop_root(void) {
    scratch_remove(root);
}

static int has(const char *name) {
    leat_topic *t;
    return leat_topic_open(mq, name, &(leat_topic_options){ .flags = LEAT_MUST_EXIST }, &t) == 0;
}

static uint32_t make(const char *name) {
    leat_topic *t;
    ok(leat_topic_open(mq, name, NULL, &t));
    return t->id;
}

// Where each note of a manifest stands; the last entry is the end. Returns how many notes.
static int notes_of(const unsigned char *all, size_t size, size_t at[256]) {
    int n = 0;
    struct lt_note note;
    for (at[0] = LT_NOTES_HEAD; at[n] < size && n < 255; n++) {
        size_t length = lt_note_decode(all, size, at[n], &note);
        cr_assert_gt(length, 0u, "no note at %zu", at[n]);
        at[n + 1] = at[n] + length;
    }
    return n;
}

static void make_open(void) {
    leat_consumer *c;
    ok(leat_open(dir, NULL, &mq));
    (void)make("a");
    (void)make("b");
    ok(leat_consumer_open(mq, "group", NULL, &c));
    ok(leat_topic_delete(mq, "a"));
    (void)make("c");
    (void)make("last");
}

static void make_some(void) {
    make_open();
    ok(leat_close_all(mq, 0));
}

// As a process leaves it that was killed: what was made after the last sync is not known to be on
// disk. Returns where that begins.
static size_t make_killed(void) {
    make_open();
    (void)make("d1");
    (void)make("d2");
    (void)make("d3");
    size_t synced = (size_t)mq->log->manifest.synced;
    scratch_copy(dir, copy);
    ok(leat_close_all(mq, 0));
    scratch_remove(dir);
    scratch_copy(copy, dir);
    scratch_remove(copy);
    return synced;
}

static void refused_unchanged(int code, const char *words) {
    char *before = scratch_listing(dir);
    fails_saying(code, words, leat_open(dir, NULL, &mq));
    char *after = scratch_listing(dir);
    cr_assert_str_eq(before, after);
    free(before);
    free(after);
}

Test(manifest, what_exists_survives_and_what_was_deleted_does_not, .init = make_root,
     .fini = drop_root) {
    make_some();
    for (int i = 0; i < 3; i++) {
        ok(leat_open(dir, NULL, &mq));
        cr_assert(!has("a") && has("b") && has("c") && has("last"));
        gives(0, leat_group_lag(mq, "group", NULL, 0, sizeof(leat_lag)));
        fails(LEAT_ENOENT, leat_group_lag(mq, "grou", NULL, 0, sizeof(leat_lag)));
        ok(leat_close(mq, 0));
    }
}

Test(manifest, an_unfinished_last_note_is_cut, .init = make_root, .fini = drop_root) {
    size_t size, left, at[256];
    (void)make_killed();
    unsigned char *whole = scratch_read(path, &size), *now;
    int n = notes_of(whole, size, at);
    for (size_t end = at[n - 1]; end <= size; end++) {
        for (int how = 0; how < 3; how++) {
            scratch_write(path, whole, how == 0 ? end : size);
            for (size_t i = end; how > 0 && i < size; i++)
                scratch_poke(path, i, how == 1 ? "\xa5" : "\0", 1);
            now = scratch_read(path, &left);
            bool there = left == size && memcmp(now, whole, size) == 0;
            free(now);
            scratch_remove(copy);
            scratch_copy(dir, copy);
            ok(leat_open(dir, NULL, &mq));
            cr_assert(has("b") && has("c") && has("d2"));
            cr_assert_eq(has("d3"), there, "how %d at %zu", how, end);
            now = scratch_read(path, &left);
            cr_assert_eq(left, there ? size : at[n - 1]);
            cr_assert_eq(memcmp(now, whole, left), 0);
            free(now);
            (void)make("again");
            ok(leat_close(mq, 0));
            ok(leat_open(dir, NULL, &mq));
            cr_assert(has("b") && has("c") && has("again"));
            cr_assert_eq(has("d3"), there);
            ok(leat_close(mq, 0));
            scratch_remove(dir);
            scratch_copy(copy, dir); // with the slots as they were
        }
    }
    free(whole);
}

// Pages that were not synced reach the disk in any order.
Test(manifest, what_was_not_synced_may_have_holes, .init = make_root, .fini = drop_root) {
    static const char *const names[] = { "last", "d1", "d2", "d3" };
    size_t size, left, at[256], synced = make_killed();
    unsigned char *whole = scratch_read(path, &size), *now;
    int n = notes_of(whole, size, at), first = 0;
    while (at[first] < synced)
        first++;
    cr_assert_geq(n - first, 4);
    scratch_copy(dir, copy);
    for (int hole = n - 4; hole < n; hole++)
        for (int how = 0; how < 3; how++) {
            for (size_t i = at[hole]; i < at[hole + 1]; i++)
                scratch_poke(path, i, how == 0 ? "\0" : how == 1 ? "\xa5" : "\x11", 1);
            ok(leat_open(dir, NULL, &mq));
            for (int i = 0; i < 4; i++)
                cr_assert_eq(has(names[i]), i < hole - (n - 4), "%s", names[i]);
            free(scratch_read(path, &left));
            cr_assert_eq(left, at[hole]);
            (void)make(names[hole - (n - 4)]); // as long as what was cut: what stood behind it ...
            ok(leat_close(mq, 0));
            ok(leat_open(dir, NULL, &mq));
            for (int i = 0; i < 4; i++) // ... does not come back
                cr_assert_eq(has(names[i]), i <= hole - (n - 4), "%s", names[i]);
            ok(leat_close(mq, 0));
            scratch_remove(dir);
            scratch_copy(copy, dir);
        }
    // What is not whole below what was synced is damage, tail or no tail.
    for (size_t i = 0; i < synced; i++) {
        unsigned char bad = whole[i] ^ 0x80;
        scratch_poke(path, i, &bad, 1);
        refused_unchanged(i >= 8 && i < 12 ? LEAT_EINVAL : LEAT_ECORRUPT, "/manifest");
        scratch_poke(path, i, &whole[i], 1);
    }
    now = scratch_read(path, &left);
    cr_assert(left == size && memcmp(now, whole, size) == 0);
    free(now);
    free(whole);
}

Test(manifest, damage_in_what_was_synced_is_an_error_and_nothing_is_changed, .init = make_root,
     .fini = drop_root) {
    size_t size, at[256];
    char slots[SCRATCH_PATH];
    make_some();
    unsigned char *whole = scratch_read(path, &size);
    int n = notes_of(whole, size, at);
    cr_assert_gt(n, 5);
    for (size_t i = 0; i < size; i++) { // the last note too
        unsigned char bad = whole[i] ^ (unsigned char)(1u << i % 8);
        scratch_poke(path, i, &bad, 1);
        refused_unchanged(i >= 8 && i < 12 ? LEAT_EINVAL : LEAT_ECORRUPT, "/manifest");
        scratch_write(path, whole, size);
    }
    for (size_t end = 0; end < size; end++) { // nor may anything be missing
        scratch_write(path, whole, end);
        refused_unchanged(LEAT_ECORRUPT, "/manifest");
    }
    scratch_write(path, whole, size);
    for (int i = 0; i + 1 < n; i++) { // nor stand elsewhere
        size_t a = at[i + 1] - at[i], b = at[i + 2] - at[i + 1];
        scratch_poke(path, at[i], whole + at[i + 1], b);
        scratch_poke(path, at[i] + b, whole + at[i], a);
        refused_unchanged(LEAT_ECORRUPT, "/manifest");
        scratch_write(path, whole, size);
    }
    ok(leat_open(dir, NULL, &mq));
    ok(leat_close(mq, 0));
    // Without the slots there is no word of the last notes, but one of all that is before a sync.
    scratch_join(slots, dir, "slots");
    scratch_write(slots, "", 0);
    struct lt_note last;
    cr_assert_gt(lt_note_decode(whole, size, at[n - 1], &last), 0u);
    cr_assert_gt(last.synced, (uint64_t)at[1]);
    for (size_t i = 0; i < last.synced; i += 3) {
        unsigned char bad = whole[i] ^ 0x10;
        scratch_poke(path, i, &bad, 1);
        refused_unchanged(i >= 8 && i < 12 ? LEAT_EINVAL : LEAT_ECORRUPT, "/manifest");
        scratch_poke(path, i, &whole[i], 1);
    }
    free(whole);
}

Test(manifest, a_tail_that_cannot_be_unsynced_is_damage_unless_it_is_zeros, .init = make_root,
     .fini = drop_root) {
    enum { TAIL = 4 << 20 };
    size_t size, left;
    make_some();
    unsigned char *whole = scratch_read(path, &size), *longer = calloc(1, size + TAIL);
    cr_assert_not_null(longer);
    memcpy(longer, whole, size);
    scratch_write(path, longer, size + TAIL);
    ok(leat_open(dir, NULL, &mq));
    cr_assert(has("b") && has("last"));
    ok(leat_close(mq, 0));
    free(scratch_read(path, &left));
    cr_assert_eq(left, size, "the zeros were cut");
    for (size_t i = 0; i < TAIL; i += 8) // each of these could begin a long note
        lt_put_u32(longer + size + i, 65000);
    scratch_write(path, longer, size + TAIL);
    refused_unchanged(LEAT_ECORRUPT, "manifest is damaged");
    scratch_write(path, longer, size + LT_NOTES_TAIL_MAX);
    ok(leat_open(dir, NULL, &mq)); // as much as can be
    cr_assert(has("b") && has("last"));
    struct lt_manifest *m = &mq->log->manifest; // because no more is ever written without a sync
    int synced = 0;
    for (uint32_t i = 0; i < 40; i++) {
        int64_t before = m->synced;
        ok(lt_manifest_note(m, 1000, i, longer, 60000));
        cr_assert_leq(m->end - m->synced, LT_NOTES_TAIL_MAX);
        synced += m->synced > before;
    }
    cr_assert(synced > 5 && synced < 12, "%d", synced);
    ok(leat_close(mq, 0));
    ok(leat_open(dir, NULL, &mq));
    cr_assert(has("b") && has("last"));
    ok(leat_close(mq, 0));
    free(longer);
    free(whole);
}

Test(manifest, ids_and_uids_are_never_given_twice, .init = make_root, .fini = drop_root) {
    static unsigned char seen_uid[1 << 20];
    uint32_t last = 0;
    for (int run = 0; run < 12; run++) {
        leat_producer *p;
        ok(leat_open(dir, &(leat_options){ .acks = LEAT_ACKS_LOG }, &mq));
        ok(leat_producer_open(mq, NULL, &p));
        for (int i = 0; i < (run % 3 == 0 ? 100 : 1); i++) {
            char name[32];
            leat_topic *t;
            snprintf(name, sizeof name, "r%d.%d", run, i);
            uint32_t id = make(name);
            cr_assert_gt(id, last, "id %u after %u", id, last);
            last = id;
            ok(leat_topic_open(mq, name, NULL, &t));
            ok(leat_send(p, t, &(leat_record){ .value = LEAT_STR("v") }, NULL));
            uint64_t uid = lt_topic_part(t, 0)->segs[0]->uid;
            cr_assert(uid > 0 && uid < sizeof seen_uid);
            cr_assert_eq(seen_uid[uid]++, 0, "uid %llu", (unsigned long long)uid);
            if (i % 2) // also of what is gone again
                ok(leat_topic_delete(mq, name));
        }
        if (run % 2) { // killed: the next run finds what was there then
            scratch_copy(dir, copy);
            ok(leat_close_all(mq, 0));
            scratch_remove(dir);
            scratch_copy(copy, dir);
            scratch_remove(copy);
        } else {
            ok(leat_close_all(mq, 0));
        }
    }
}

// ---- the system fails

static struct lt_os os;
static int calls_left;
static int manifest_fd, slots_fd;
static bool slots_failed;
static int64_t rewritten_from, rewritten_to;
static bool manifest_synced;

static bool bad_now(void) {
    return calls_left > 0 && --calls_left == 0;
}
static int bad_open(struct lt_os *self, int at, const char *name, int flags, unsigned m) {
    (void)self;
    int fd = bad_now() ? -ENOSPC : lt_os_system()->open(&os, at, name, flags, m);
    if (strcmp(name, "manifest") == 0)
        manifest_fd = fd;
    if (strcmp(name, "slots") == 0)
        slots_fd = fd;
    return fd;
}
static int64_t bad_pwrite(struct lt_os *self, int fd, const void *buf, size_t n, int64_t at) {
    (void)self;
    if (bad_now()) {
        slots_failed = fd == slots_fd;
        int64_t half = lt_os_system()->pwrite(&os, fd, buf, n / 2, at);
        return half < 0 ? half : -ENOSPC;
    }
    if (fd == manifest_fd) {
        rewritten_from = at;
        rewritten_to = at + (int64_t)n;
    }
    return lt_os_system()->pwrite(&os, fd, buf, n, at);
}
static int bad_sync(struct lt_os *self, int fd, bool is_dir) {
    (void)self;
    manifest_synced |= fd == manifest_fd;
    return bad_now() ? -EIO : lt_os_system()->sync(&os, fd, is_dir);
}
static int bad_rename(struct lt_os *self, int at, const char *from, const char *to) {
    (void)self;
    return bad_now() ? -EIO : lt_os_system()->rename(&os, at, from, to);
}
static int bad_mkdir(struct lt_os *self, int at, const char *name, unsigned m) {
    (void)self;
    return bad_now() ? -ENOSPC : lt_os_system()->mkdir(&os, at, name, m);
}
static int bad_allocate(struct lt_os *self, int fd, int64_t at, int64_t n) {
    (void)self;
    bool bad = bad_now();
    slots_failed |= bad && fd == slots_fd;
    return bad ? -ENOSPC : lt_os_system()->allocate(&os, fd, at, n);
}

static void use_bad_os(void) {
    os = *lt_os_system();
    os.open = bad_open;
    os.pwrite = bad_pwrite;
    os.sync = bad_sync;
    os.rename = bad_rename;
    os.mkdir = bad_mkdir;
    os.allocate = bad_allocate;
}

// After a failed sync the page cache can hold what the disk does not, and the disk what was cut.
Test(manifest, what_is_not_known_to_be_on_disk_is_written_again_and_synced, .init = make_root,
     .fini = drop_root) {
    size_t size, synced = make_killed();
    free(scratch_read(path, &size));
    scratch_copy(dir, copy);
    use_bad_os();
    for (int tail = 0; tail < 2; tail++) {
        for (int k = 1;; k++) {
            scratch_remove(dir);
            scratch_copy(copy, dir);
            if (tail)
                scratch_truncate(path, size + 100);
            calls_left = k;
            int rc = lt_store_open(dir, NULL, &os, &mq);
            bool failed = calls_left == 0;
            calls_left = 0;
            cr_assert_eq(failed, rc != 0, "call %d", k);
            if (rc == 0)
                ok(leat_close(mq, 0));
            rewritten_from = rewritten_to = -1;
            manifest_synced = false;
            ok(lt_store_open(dir, NULL, &os, &mq)); // also of one that was cut or closed before
            cr_assert(manifest_synced);
            cr_assert(!failed ||
                      (rewritten_from == (int64_t)synced && rewritten_to == (int64_t)size));
            cr_assert(failed || rewritten_from < 0, "what is known to be there was written again");
            cr_assert(has("b") && has("d3"));
            ok(leat_close(mq, 0));
            if (!failed) {
                cr_assert_gt(k, 3);
                break;
            }
        }
    }
}

Test(manifest, making_a_store_fails_whole_or_can_be_tried_again, .init = make_root,
     .fini = drop_root) {
    use_bad_os();
    for (int32_t mode = LEAT_WRITE_MAPPED; mode <= LEAT_WRITE_PWRITE; mode++) {
        for (int k = 1;; k++) {
            leat_options o = { .write = mode };
            leat_topic *t;
            calls_left = k;
            int rc = lt_store_open(dir, &o, &os, &mq);
            bool reached = rc == 0;
            if (rc == 0)
                rc = leat_topic_open(mq, "t", NULL, &t);
            bool failed = calls_left == 0;
            cr_assert(rc == 0 || failed);
            cr_assert(rc != 0 || !failed || slots_failed, "call %d", k); // evidence, no promise
            slots_failed = false;
            cr_assert(rc == 0 || rc == LEAT_ENOSPC || rc == LEAT_EIO, "%s", leat_errmsg());
            calls_left = 0;
            scratch_remove(copy);
            if (scratch_exists(dir)) {
                scratch_copy(dir, copy); // killed at this point
                if (reached)
                    (void)leat_close(mq, 0);
                ok(leat_open(copy, &o, &mq));
                cr_assert_eq(has("t"), rc == 0);
                (void)make("t");
                ok(leat_close(mq, 0));
                ok(leat_open(dir, &o, &mq)); // or closed
                (void)make("t");
                ok(leat_close(mq, 0));
            }
            scratch_remove(dir);
            if (!failed) {
                cr_assert_gt(k, 8);
                break;
            }
        }
    }
}
