/* SPDX-License-Identifier: MIT */
// Sealed segments, their index files, and what is made of damage that later records give away.
#include "base/bytes.h"
#include "leat.h"
#include "leat_test.h"
#include "lib/copy.h"
#include "log/format.h"
#include "store/store.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORDS = 3000, SEGMENT = 64 * 1024 };

static leat *mq;
static leat_topic *t;
static leat_producer *p;
static struct lt_os os;
static int64_t read_bytes, files_max;
static int maps, files, files_most;

static int no_sync(struct lt_os *o, int fd, bool is_dir) {
    (void)o;
    (void)fd;
    (void)is_dir;
    return 0;
}
static int64_t counted_pread(struct lt_os *o, int fd, void *buf, size_t n, int64_t at) {
    int64_t got = lt_os_system()->pread(o, fd, buf, n, at);
    read_bytes += got;
    return got;
}
static int counted_map(struct lt_os *o, int fd, size_t n, bool writable, void **out) {
    maps++;
    return lt_os_system()->map(o, fd, n, writable, out);
}
static int counted_unmap(struct lt_os *o, void *at, size_t n) {
    maps--;
    return lt_os_system()->unmap(o, at, n);
}
static int counted_open(struct lt_os *o, int at, const char *path, int flags, unsigned mode) {
    int fd = lt_os_system()->open(o, at, path, flags, mode);
    files += fd >= 0;
    files_most = files > files_most ? files : files_most;
    return fd;
}
static int counted_close(struct lt_os *o, int fd) {
    files--;
    return lt_os_system()->close(o, fd);
}
static int64_t few_files(struct lt_os *o) {
    (void)o;
    return files_max;
}

static int open_with(const char *path, uint32_t flags) {
    os = *lt_os_system();
    os.sync = no_sync; // what is looked at is the page cache
    os.pread = counted_pread;
    os.map = counted_map;
    os.unmap = counted_unmap;
    os.open = counted_open;
    os.close = counted_close;
    if (files_max)
        os.files_max = few_files;
    read_bytes = maps = files = files_most = 0;
    leat_options o = { .clock = LEAT_CLOCK_MANUAL, .flags = flags };
    return lt_store_open(path, &o, &os, &mq);
}

static void use(const char *path, uint32_t flags) {
    ok(open_with(path, flags));
    ok(leat_topic_open(mq, "t", &(leat_topic_options){ .segment_bytes = SEGMENT }, &t));
    ok(leat_producer_open(mq, NULL, &p));
}

static void done(void) {
    ok(leat_close_all(mq, 0));
}

// Record i says its number, and is not in order of time: i ^ 7.
static int64_t time_of(int64_t i) {
    return 1000 + (i ^ 7);
}

static void send_to(int64_t end, int32_t acks) {
    leat_range range;
    leat_producer *q;
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = acks }, &q));
    ok(leat_topic_range(t, 0, &range));
    for (int64_t i = range.end; i < end; i++) {
        char text[64];
        snprintf(text, sizeof text, "record %06lld ......................", (long long)i);
        leat_record r = { .value = leat_str(text), .timestamp_ms = time_of(i) };
        ok(leat_send(q, t, &r, NULL));
    }
    ok(leat_producer_close(q, 0));
}

// Reads from..to-1 and expects exactly these, but for [lost, lost_to), then the result `last`.
static void reads(int64_t from, int64_t to, int64_t lost, int64_t lost_to, int last) {
    leat_consumer *c;
    const leat_message *m;
    int n;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t", .offset = from }, 1));
    while ((n = leat_poll(c, 0, &m)) > 0)
        for (int i = 0; i < n; i++, from++) {
            char text[64];
            if (from == lost)
                from = lost_to;
            snprintf(text, sizeof text, "record %06lld ......................", (long long)from);
            cr_assert_eq(m[i].offset, from, "%lld, not %lld", (long long)m[i].offset,
                         (long long)from);
            is(m[i].value, text);
            cr_assert_eq(m[i].timestamp_ms, time_of(from));
        }
    cr_assert_eq(n, last, "%s", leat_errmsg());
    cr_assert_eq(from == lost && lost_to == to ? to : from, to);
    ok(leat_consumer_close(c));
}

static void reads_all(int64_t to) {
    reads(0, to, -1, -1, 0);
}

static void file_of(char out[SCRATCH_PATH], int64_t base, const char *suffix) {
    char name[64];
    snprintf(name, sizeof name, "1/0/%020lld%s", (long long)base, suffix);
    scratch_join(out, dir, "%s", name);
}

static int bases_of(int64_t base[64]) {
    char *list = scratch_listing(dir);
    int n = 0;
    for (char *line = strtok(list, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "1/0/", 4) == 0 && strstr(line, ".log ") && n < 64)
            base[n++] = strtoll(line + 4, NULL, 10);
    free(list);
    return n;
}

// Where record `offset` stands in the segment at `base`.
static size_t position_of(int64_t base, int64_t offset) {
    char path[SCRATCH_PATH];
    size_t size, at = LT_SEGMENT_PAGE;
    file_of(path, base, ".log");
    unsigned char *all = scratch_read(path, &size);
    for (int64_t i = base; i < offset; i++)
        at += lt_record_size(all + at);
    free(all);
    return at;
}

static void damage(int64_t base, const char *suffix, size_t at) {
    char path[SCRATCH_PATH];
    size_t size;
    file_of(path, base, suffix);
    unsigned char *all = scratch_read(path, &size);
    cr_assert_lt(at, size);
    all[at] ^= 0x20;
    scratch_write(path, all, size);
    free(all);
}

static void made_and_closed(void) {
    use(dir, 0);
    send_to(RECORDS, LEAT_ACKS_LOG);
    done();
}

// As kill -9 leaves it: the first `durable` records are on disk, the others at LOG.
static void made_and_killed(int64_t durable, int64_t all) {
    use(dir, 0);
    send_to(durable, LEAT_ACKS_DISK);
    send_to(all, LEAT_ACKS_LOG);
    scratch_copy(dir, copy);
    done();
    scratch_remove(dir);
    cr_assert_eq(rename(copy, dir), 0);
}

// ---- a clean open

Test(index, a_clean_open_reads_pages_and_no_records, .init = make_root, .fini = drop_root) {
    int64_t base[64];
    made_and_closed();
    int n = bases_of(base);
    cr_assert_geq(n, 4);
    use(dir, 0);
    cr_assert_leq(read_bytes, n * 5000 + 10000, "%lld bytes", (long long)read_bytes);
    cr_assert_leq(maps, 1, "%d mappings: the slots and no segment", maps);
    int64_t offset;
    cr_assert_eq(leat_topic_offset_at(t, 0, time_of(2040), &offset), 1);
    cr_assert_eq(offset, 2040, "the first of the eight with a time as late as that");
    cr_assert_eq(leat_topic_offset_at(t, 0, 0, &offset), 1);
    cr_assert_eq(offset, 0);
    reads_all(RECORDS);
    send_to(RECORDS + 700, LEAT_ACKS_DISK); // behind what the index knows, and over a roll
    for (int64_t i = RECORDS; i < RECORDS + 700; i += 50) {
        cr_assert_eq(leat_topic_offset_at(t, 0, time_of(i | 7), &offset), 1);
        cr_assert_eq(offset, i & ~INT64_C(7));
    }
    reads_all(RECORDS + 700);
    done();
    use(dir, 0);
    reads_all(RECORDS + 700);
    done();
}

Test(index, an_index_that_is_missing_or_unsound_is_made_again, .init = make_root,
     .fini = drop_root) {
    int64_t base[64];
    char path[SCRATCH_PATH];
    made_and_closed();
    int n = bases_of(base);
    for (int i = 0; i < n; i++) {
        file_of(path, base[i], ".idx");
        size_t size, again;
        unsigned char *was = scratch_read(path, &size);
        static const size_t flips[] = { 0, 9, 17, 25, 33, 50, 57, 63, 64, 500, 900 };
        for (size_t k = 0; k < 2 + sizeof flips / sizeof flips[0]; k++) {
            if (k == 0)
                scratch_remove(path);
            else if (k == 1)
                scratch_write(path, was, size - 1);
            else
                damage(base[i], ".idx", flips[k - 2] < size ? flips[k - 2] : size - 1);
            use(dir, 0);
            int64_t offset;
            cr_assert_eq(leat_topic_offset_at(t, 0, time_of(base[i] | 7), &offset), 1);
            cr_assert_eq(offset, (base[i] | 7) - 7);
            reads_all(RECORDS);
            done();
            unsigned char *is = scratch_read(path, &again);
            cr_assert(again == size && memcmp(is + LT_SEAL, was + LT_SEAL, size - LT_SEAL) == 0,
                      "segment %d, case %zu: the index is not made again", i, k);
            free(is);
        }
        free(was);
    }
}

Test(index, descriptors_and_mappings_have_a_bound, .init = make_root, .fini = drop_root) {
    enum { TOPICS = 100 };
    files_max = 80; // a quarter of it is the store's
    use(dir, 0);
    leat_topic *all[TOPICS];
    leat_consumer *c;
    leat_message held[TOPICS];
    const leat_message *m;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < TOPICS; i++) {
            char name[16];
            snprintf(name, sizeof name, "t%d", i);
            ok(leat_topic_open(mq, name, NULL, &all[i]));
            leat_producer *q;
            ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &q));
            leat_record r = { .value = leat_str(name) };
            ok(leat_send(q, all[i], &r, NULL));
            ok(leat_producer_close(q, 0));
            ok(leat_consumer_assign(c, &(leat_position){ .topic = name, .offset = round }, 1));
            gives(1, leat_poll(c, 0, &m));
            if (round == 0)
                ok(leat_message_hold(mq, &m[0], &held[i]));
        }
        cr_assert_leq(files_most, 20 + 8, "%d files at once", files_most);
    }
    for (int i = 0; i < TOPICS; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        is(held[i].value, name); // what is held is there, whatever was given back
        ok(leat_message_release(mq, &held[i]));
    }
    done();
    use(dir, 0);
    cr_assert_leq(files_most, 20 + 8);
    leat_range range;
    for (int i = 0; i < TOPICS; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        ok(leat_topic_open(mq, name, NULL, &all[i]));
        ok(leat_topic_range(all[i], 0, &range));
        cr_assert(range.end == 2 && range.durable_end == 2);
    }
    done();
    files_max = 0;
}

// ---- damage in what an open does not read

Test(index, damage_in_a_sealed_segment_is_told_when_it_is_read, .init = make_root,
     .fini = drop_root) {
    int64_t base[64];
    made_and_closed();
    cr_assert_geq(bases_of(base), 4);
    int64_t bad = base[1] + 20;
    damage(base[1], ".log", position_of(base[1], bad) + 40);
    for (int with_index = 1; with_index >= 0; with_index--) {
        char path[SCRATCH_PATH], words[64];
        file_of(path, base[1], ".idx");
        if (!with_index)
            scratch_remove(path);
        use(dir, 0);
        reads(0, bad, -1, -1, LEAT_ECORRUPT);
        snprintf(words, sizeof words, "topic t partition 0: offset %lld is damaged",
                 (long long)bad);
        cr_assert_not_null(strstr(leat_errmsg(), words), "%s", leat_errmsg());
        reads(bad + 1, RECORDS, -1, -1, 0);
        done();
        char *before = scratch_listing(dir);
        use(dir, LEAT_SKIP_ROT);
        reads(0, RECORDS, bad, bad + 1, 0);
        done();
        char *after = scratch_listing(dir);
        cr_assert_str_eq(before, after, "nothing of it is touched");
        free(before);
        free(after);
    }
}

Test(index, a_queue_tells_damage_or_goes_past_it, .init = make_root, .fini = drop_root) {
    made_and_closed();
    leat_queue *q;
    leat_message m;
    damage(0, ".log", position_of(0, 2) + 40);
    use(dir, 0);
    ok(leat_queue_open(mq, "q", &(leat_queue_options){ .topic = "t" }, &q));
    for (int i = 0; i < 2; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        ok(leat_queue_ack(q, &m));
    }
    fails_saying(LEAT_ECORRUPT, "offset 2 is damaged", leat_queue_receive(q, 0, &m, 1));
    done();
    use(dir, LEAT_SKIP_ROT);
    ok(leat_queue_open(mq, "q", NULL, &q));
    for (int i = 3; i < 10; i++) {
        gives(1, leat_queue_receive(q, 0, &m, 1));
        cr_assert_eq(m.offset, i);
        ok(leat_queue_ack(q, &m));
    }
    done();
}

Test(index, what_is_sealed_is_mapped_to_be_read_only, .init = make_root, .fini = drop_root) {
    use(dir, 0);
    send_to(RECORDS, LEAT_ACKS_DISK);
    leat_consumer *c;
    const leat_message *m;
    ok(leat_consumer_open(mq, NULL, NULL, &c));
    ok(leat_consumer_assign(c, &(leat_position){ .topic = "t" }, 1));
    gives(500, leat_poll(c, 0, &m));
    uintptr_t at = (uintptr_t)m[0].value.data, from, to;
    char line[256], how[8] = "";
    FILE *f = fopen("/proc/self/maps", "r");
    cr_assert_not_null(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%lx-%lx %7s", &from, &to, how) == 3 && from <= at && at < to)
            break;
    fclose(f);
    cr_assert_eq(strncmp(how, "r--", 3), 0, "the sealed segment is mapped %s", how);
    done();
}

// ---- rot or an unfinished tail

Test(index, what_later_records_prove_is_damage_and_the_rest_is_a_tail, .init = make_root,
     .fini = drop_root) {
    // 40 on disk, then 10 at LOG, which say so; the partition's own slot has lost its word.
    for (int64_t bad = 30; bad < 50; bad++) {
        char path[SCRATCH_PATH], words[64];
        made_and_killed(40, 50);
        scratch_join(path, dir, "slots");
        scratch_write(path, "", 0);
        damage(0, ".log", position_of(0, bad) + 40);
        if (bad < 40) {
            char *before = scratch_listing(dir);
            snprintf(words, sizeof words, "offsets %lld to %lld are", (long long)bad,
                     (long long)bad);
            fails_saying(LEAT_ECORRUPT, words, open_with(dir, 0));
            scratch_write(path, "", 0);
            char *after = scratch_listing(dir);
            cr_assert_str_eq(before, after, "nothing is changed");
            free(before);
            free(after);
            use(dir, LEAT_SKIP_ROT);
            reads(0, 50, bad, bad + 1, 0);
            send_to(60, LEAT_ACKS_DISK);
            reads(0, 60, bad, bad + 1, 0);
            done();
            fails(LEAT_ECORRUPT, open_with(dir, 0) == 0 ? (done(), 0) : LEAT_ECORRUPT);
        } else {
            use(dir, 0);
            reads_all(bad);
            done();
        }
        scratch_remove(dir);
    }
}

Test(index, a_damaged_last_record_on_disk_is_left_behind_and_its_number_not_used, .init = make_root,
     .fini = drop_root) {
    made_and_killed(40, 40);
    damage(0, ".log", position_of(0, 38) + 40);
    damage(0, ".log", position_of(0, 39) + 40);
    fails_saying(LEAT_ECORRUPT, "offsets 38 to 39 are", open_with(dir, 0));
    use(dir, LEAT_SKIP_ROT);
    leat_stats stats;
    ok(leat_get_stats(mq, &stats, sizeof stats));
    cr_assert(stats.damaged_ranges == 1 && stats.cut_records == 0 && stats.cut_bytes == 0);
    reads_all(38);
    send_to(45, LEAT_ACKS_DISK);
    reads(0, 45, 38, 40, 0);
    done();
    use(dir, 0); // the gap is stated now
    reads(0, 45, 38, 40, 0);
    done();
    cr_assert_gt(position_of(0, 39), position_of(0, 38), "and the bytes are still there");
}

Test(index, a_segment_that_cannot_be_read_is_damage_if_a_later_one_proves_it, .init = make_root,
     .fini = drop_root) {
    int64_t base[64];
    made_and_closed();
    cr_assert_geq(bases_of(base), 4);
    damage(base[1], ".log", 100); // its header page
    char words[64], path[SCRATCH_PATH];
    scratch_join(path, dir, "slots");
    scratch_copy(dir, copy);
    scratch_write(path, "", 0); // only the segments behind it are left to say so
    snprintf(words, sizeof words, "offsets %lld to %lld are", (long long)base[1],
             (long long)base[2] - 1);
    fails_saying(LEAT_ECORRUPT, words, open_with(dir, 0));
    scratch_remove(dir);
    cr_assert_eq(rename(copy, dir), 0);
    char *before = scratch_listing(dir);
    fails_saying(LEAT_ECORRUPT, words, open_with(dir, 0));
    char *after = scratch_listing(dir);
    cr_assert_str_eq(before, after);
    free(after);
    use(dir, LEAT_SKIP_ROT);
    reads(0, RECORDS, base[1], base[2], 0);
    done();
    after = scratch_listing(dir);
    cr_assert_str_eq(before, after, "nothing of it is touched");
    free(before);
    free(after);
}

// A batch is all there or not at all: the last three of ten say that it goes on behind them.
Test(index, a_batch_that_is_not_whole_is_cut, .init = make_root, .fini = drop_root) {
    char path[SCRATCH_PATH];
    made_and_killed(5, 10);
    file_of(path, 0, ".log");
    size_t size;
    unsigned char *all = scratch_read(path, &size);
    for (int64_t i = 7; i < 10; i++) {
        size_t at = position_of(0, i);
        leat_message m;
        lt_record_view(all + at, 0, &m);
        char text[64];
        snprintf(text, sizeof text, LEAT_FMT, LEAT_ARG(m.value));
        leat_record r = { .value = leat_str(text) };
        struct lt_plan plan;
        ok(lt_plan_make(&r, NULL, 0, &plan));
        struct lt_stamp place = { .uid = lt_get_u64(all + 24),
                                  .offset = i,
                                  .timestamp_ms = time_of(i),
                                  .behind = (uint16_t)(i - 5),
                                  .more = true };
        lt_record_put(all + at, &plan, &place);
    }
    scratch_write(path, all, size);
    free(all);
    use(dir, 0);
    leat_stats stats;
    ok(leat_get_stats(mq, &stats, sizeof stats));
    cr_assert(stats.cut_records == 3 && stats.cut_bytes > 100 && stats.damaged_ranges == 0);
    reads_all(7);
    send_to(9, LEAT_ACKS_DISK);
    done();
    use(dir, 0);
    reads_all(9);
    done();
}

// When the last record of the segment at `base` was appended, as its seal or its index says.
static int64_t appended_of(int64_t base, bool sealed) {
    char path[SCRATCH_PATH];
    size_t size;
    struct lt_seal seal;
    struct lt_segment_head head;
    file_of(path, base, ".log");
    unsigned char *log = scratch_read(path, &size);
    ok(lt_segment_head_get(log, &head));
    const unsigned char *at = log + size - LT_SEAL;
    unsigned char *index = NULL;
    if (!sealed) {
        file_of(path, base, ".idx");
        at = index = scratch_read(path, &size);
    }
    cr_assert(lt_seal_get(at, sealed ? LT_SEAL_SEGMENT : LT_SEAL_INDEX, head.uid, &seal));
    free(index);
    free(log);
    return seal.appended_ms;
}

Test(index, a_segment_says_when_its_last_record_was_appended_not_what_records_say,
     .init = make_root, .fini = drop_root) {
    int64_t base[64], start;
    use(dir, 0);
    ok(leat_clock_now(mq, NULL, &start));
    for (int64_t i = 1; i <= RECORDS; i++) { // record i - 1 at start + i, with a time of its own
        ok(leat_clock_advance(mq, 1));
        send_to(i, LEAT_ACKS_LOG);
    }
    ok(leat_clock_advance(mq, 1000000));
    done();
    int n = bases_of(base);
    cr_assert_gt(n, 2);
    for (int i = 0; i + 1 < n; i++)
        cr_assert_eq(appended_of(base[i], true), start + base[i + 1]);
    cr_assert_eq(appended_of(base[n - 1], false), start + RECORDS);
}
