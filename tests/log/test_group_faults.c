/* SPDX-License-Identifier: MIT */
// Deleting and resetting a group: what a kill leaves at each system call, and what is left where
// the system refuses one.
#include "base/os.h"
#include "leat.h"
#include "lib/place.h"
#include "log/log.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

static leat *mq;
static struct lt_os os;
static bool watched, failing;
static int pwrites = -1; // so many succeed before one that does not
static int copies;       // of the store as it was before each call that writes

static void copy_path(char path[SCRATCH_PATH], int n) {
    scratch_join(path, root, "copy%d", n);
}

static void take_copy(void) {
    char to[SCRATCH_PATH];
    if (!watched || failing)
        return;
    copy_path(to, copies++);
    scratch_copy(dir, to);
}

static int watched_sync(struct lt_os *self, int fd, bool is_dir) {
    (void)self;
    take_copy();
    return watched && failing ? -EIO : lt_os_system()->sync(&os, fd, is_dir);
}

static int64_t watched_pwrite(struct lt_os *self, int fd, const void *buf, size_t n, int64_t at) {
    (void)self;
    take_copy();
    if (pwrites >= 0 && pwrites-- == 0)
        return -EIO;
    return lt_os_system()->pwrite(&os, fd, buf, n, at);
}

static void open_at(const char *path, struct lt_os *table, int32_t write) {
    ok(lt_store_open(path, &(leat_options){ .seed = 1, .write = write }, table, &mq));
}

static void done(void) {
    ok(leat_close_all(mq, 0));
}

static int64_t committed(const char *group, int32_t partition) {
    leat_lag lag[2];
    int n = leat_group_lag(mq, group, lag, 2, sizeof lag[0]);
    for (int i = 0; i < n; i++)
        if (lag[i].partition == partition)
            return lag[i].committed;
    return n < 0 ? n : -1;
}

static void commit_all(const char *group) {
    leat_consumer *c;
    const leat_message *m;
    ok(leat_consumer_open(mq, group, &(leat_consumer_options){ .commit_acks = LEAT_ACKS_DISK },
                          &c));
    ok(leat_consumer_subscribe(c, "t"));
    gives(6, leat_poll(c, 0, &m));
    ok(leat_commit(c));
    ok(leat_consumer_close(c));
}

static void make_store(int32_t write) {
    leat_topic *t;
    leat_producer *p;
    os = *lt_os_system();
    os.sync = watched_sync;
    os.pwrite = watched_pwrite;
    watched = failing = false;
    copies = 0;
    open_at(dir, &os, write);
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .partitions = 2 }, &t));
    ok(leat_producer_open(mq, NULL, &p));
    for (int i = 0; i < 6; i++)
        ok(leat_send(
            p, t, &(leat_record){ .value = LEAT_STR("v"), .to_partition = LEAT_PARTITION(i % 2) },
            NULL));
    commit_all("g");
    commit_all("h");
}

// The group is there with all it has committed, or there is nothing of it.
static bool check_whole_or_gone(void) {
    bool there = leat_group_list(mq, NULL, 0) == 2;
    for (int32_t i = 0; i < 2; i++) {
        cr_assert_eq(committed("g", i), there ? 3 : LEAT_ENOENT);
        cr_assert_eq(committed("h", i), 3);
    }
    if (!there) {
        commit_all("g"); // a new one, which begins at the begin
        ok(leat_group_delete(mq, "g"));
    }
    return there;
}

Test(group_delete, a_kill_in_the_middle_leaves_it_whole_or_gone, .init = make_root,
     .fini = drop_root) {
    for (int32_t write = LEAT_WRITE_MAPPED; write <= LEAT_WRITE_PWRITE; write++) {
        int whole = 0, gone = 0;
        make_store(write);
        watched = true;
        ok(leat_group_delete(mq, "g"));
        take_copy();
        watched = false;
        cr_assert(!check_whole_or_gone());
        done();
        for (int i = 0; i < copies; i++) {
            char copy[SCRATCH_PATH];
            copy_path(copy, i);
            open_at(copy, lt_os_system(), write);
            if (check_whole_or_gone())
                whole++;
            else
                gone++;
            cr_assert(gone == 0 || i >= whole, "gone, then there again");
            done();
            scratch_remove(copy);
        }
        cr_assert(whole > 0 && gone > 0, "%d whole, %d gone", whole, gone);
        scratch_remove(dir);
    }
}

Test(group_delete, where_the_sync_fails_nothing_of_it_is_let_go, .init = make_root,
     .fini = drop_root) {
    for (int32_t write = LEAT_WRITE_MAPPED; write <= LEAT_WRITE_PWRITE; write++) {
        make_store(write);
        uint32_t at = 0, slots = 0;
        watched = failing = true;
        fails(LEAT_EIO, leat_group_delete(mq, "g"));
        watched = false;
        gives(1, leat_group_list(mq, NULL, 0)); // a later open will not find it, nor does this one
        for (struct lt_slot *s; (s = lt_slots_next(&mq->log->slots, &at));)
            slots += s->key.kind == LT_SLOT_COMMIT;
        cr_assert_eq(slots, 4, "a power cut may bring it back: whole");
        leat_consumer *c;
        fails(LEAT_EPOISONED, leat_consumer_open(mq, "new", NULL, &c));
        fails(LEAT_EPOISONED, leat_group_delete(mq, "h"));
        cr_assert_eq(committed("h", 0), 3);
        int rc = leat_close_all(mq, 0);
        cr_assert(rc == LEAT_EIO || rc == LEAT_EPOISONED, "%s", leat_errname(rc));
        open_at(dir, lt_os_system(), write);
        cr_assert(!check_whole_or_gone());
        done();
        scratch_remove(dir);
    }
}

Test(group_reset, where_a_store_fails_in_the_middle_all_is_as_it_was, .init = make_root,
     .fini = drop_root) {
    for (int fresh = 0; fresh < 2; fresh++) {
        make_store(LEAT_WRITE_PWRITE);
        const char *group = fresh ? "new" : "g";
        int64_t before = fresh ? -1 : 3;
        leat_consumer *c;
        ok(leat_consumer_open(mq, group, NULL, &c));
        ok(leat_consumer_close(c));
        leat_position pos[] = { { .topic = "t", .partition = 0, .offset = 1 },
                                { .topic = "t", .partition = 1, .offset = 2 } };
        for (int i = 0; i < 2; i++) {
            pwrites = i;
            fails(LEAT_EIO, leat_group_reset(mq, group, pos, 2));
            pwrites = -1;
            cr_assert_eq(committed(group, 0), before);
            cr_assert_eq(committed(group, 1), before);
        }
        done();
        open_at(dir, lt_os_system(), LEAT_WRITE_PWRITE);
        cr_assert_eq(committed(group, 0), before);
        cr_assert_eq(committed(group, 1), before);
        ok(leat_group_reset(mq, group, pos, 2));
        cr_assert_eq(committed(group, 0), 1);
        cr_assert_eq(committed(group, 1), 2);
        done();
        scratch_remove(dir);
    }
}
