/* SPDX-License-Identifier: MIT */
// How many bytes lie between two offsets: what the records say of themselves, added up.
#include "leat.h"
#include "lib/place.h"
#include "log/log.h"

#include <criterion/criterion.h>

enum { RECORDS = 120 };

static leat *mq;
static leat_topic *t;

static void open_store(bool in_memory) {
    leat_options o = { .seed = 1 };
    leat_topic_options topic = { .segment_bytes = 16384 };
    ok(in_memory ? leat_open_memory(&o, &mq) : leat_open(dir, &o, &mq));
    ok(leat_topic_open(mq, "t", &topic, &t));
}

static void send_some(void) {
    static char value[2000];
    leat_producer *p;
    ok(leat_producer_open(mq, &(leat_producer_options){ .acks = LEAT_ACKS_LOG }, &p));
    for (size_t i = 0; i < RECORDS; i++) {
        leat_record r = { .value = { value, i * 131 % sizeof value } };
        ok(leat_send(p, t, &r, NULL));
    }
    ok(leat_producer_close(p, 0));
}

// *sizes[i]: of record i, as it says itself.
static void read_sizes(int64_t sizes[RECORDS]) {
    struct lt_cursor c;
    lt_cursor_init(&c, lt_topic_part(t, 0), 0);
    for (int i = 0; i < RECORDS; i++) {
        gives(1, lt_cursor_find(&c, RECORDS));
        sizes[i] = lt_record_size(c.seg->map + c.at);
        lt_cursor_advance(&c, lt_cursor_size(&c));
    }
    lt_cursor_fini(&c);
}

static void check_all(const int64_t sizes[RECORDS]) {
    struct lt_partition *p = lt_topic_part(t, 0);
    int64_t bytes;
    for (int64_t from = 0; from <= RECORDS; from++) {
        int64_t sum = 0;
        for (int64_t to = from; to <= RECORDS; to++) {
            ok(lt_partition_bytes_between(p, from, to, &bytes));
            cr_assert_eq(bytes, sum, "%lld..%lld: %lld, not %lld", (long long)from, (long long)to,
                         (long long)bytes, (long long)sum);
            sum += to < RECORDS ? sizes[to] : 0;
        }
    }
    ok(lt_partition_bytes_between(p, 5, 4, &bytes));
    cr_assert_eq(bytes, 0);
    ok(lt_partition_bytes_between(p, RECORDS, INT64_MAX, &bytes));
    cr_assert_eq(bytes, 0);
    ok(lt_partition_bytes_between(p, -7, INT64_MAX, &bytes));
    cr_assert_eq(bytes, p->bytes);
}

Test(extent, bytes_between_two_offsets_are_those_of_the_records, .init = make_root,
     .fini = drop_root) {
    for (int in_memory = 0; in_memory < 2; in_memory++) {
        int64_t sizes[RECORDS], bytes, less = 0;
        open_store(in_memory);
        ok(lt_partition_bytes_between(lt_topic_part(t, 0), 0, 10, &bytes));
        cr_assert_eq(bytes, 0, "nothing is there");
        send_some();
        read_sizes(sizes);
        check_all(sizes);
        if (!in_memory) { // of segments that nobody has read yet, with index files
            ok(leat_close_all(mq, 0));
            open_store(false);
            check_all(sizes);
            leat_options o = { .flags = LEAT_READ_ONLY };
            leat *own = mq;
            ok(leat_open(dir, &o, &mq));
            ok(leat_topic_open(mq, "t", NULL, &t));
            check_all(sizes);
            ok(leat_close_all(mq, 0));
            mq = own;
            ok(leat_topic_open(mq, "t", NULL, &t));
        }
        ok(leat_topic_delete_records(t, 0, 3)); // inside the first segment
        ok(lt_partition_bytes_between(lt_topic_part(t, 0), 0, 50, &bytes));
        for (int i = 3; i < 50; i++)
            less += sizes[i];
        cr_assert_eq(bytes, less, "what is deleted counts nothing");
        ok(leat_close_all(mq, 0));
    }
}
