/* SPDX-License-Identifier: MIT */
#include "lib/async.h"

#include "leat_test.h"

#include <stdio.h>
#include <stdlib.h>

const char *const async_name[MODES] = { "alone", "polled", "threaded" };
struct told told;

void told_take(leat_producer *from, const leat_report *r, void *ctx) {
    struct told *to = ctx;
    (void)from;
    to->at_once |= to->inside++ != 0;
    if (to->count < TOLD_MAX) {
        struct told_one *one = &to->one[to->count];
        leat_bytes value = r->record ? r->record->value : leat_str("(batch)");
        (void)snprintf(one->value, sizeof one->value, "%.*s", (int)value.size,
                       (const char *)value.data);
        (void)snprintf(one->message, sizeof one->message, "%.79s", r->message);
        one->offset = r->md.offset;
        one->timestamp_ms = r->md.timestamp_ms;
        one->partition = r->md.partition;
        one->status = r->status;
        one->error = r->error;
    }
    to->count++;
    to->inside--;
}

const char *told_wrong(int n) {
    static char text[160];
    static int seen[TOLD_MAX];
    int last[64];
    int64_t offset[64];
    for (int i = 0; i < 64; i++)
        offset[i] = last[i] = -1;
    memset(seen, 0, sizeof seen);
    text[0] = '\0';
    for (int i = 0; i < told.count && i < TOLD_MAX && !text[0]; i++) {
        const struct told_one *one = &told.one[i];
        int number = atoi(one->value), at = one->partition;
        if (number < 0 || number >= n || seen[number]++)
            (void)snprintf(text, sizeof text, "%s is told again, or was not sent", one->value);
        else if (at < 0 || at >= 64 || number < last[at])
            (void)snprintf(text, sizeof text, "%s is told behind %d", one->value, last[at]);
        else if (one->offset >= 0 && one->offset <= offset[at])
            (void)snprintf(text, sizeof text, "%s has a lower offset than one before", one->value);
        if (text[0])
            break;
        last[at] = number;
        offset[at] = one->offset >= 0 ? one->offset : offset[at];
    }
    if (!text[0] && told.count != n)
        (void)snprintf(text, sizeof text, "%d are told, not %d", told.count, n);
    if (!text[0] && told.at_once)
        (void)snprintf(text, sizeof text, "two are told at once");
    return text[0] ? text : NULL;
}

int told_as(int status, int error) {
    int n = 0;
    for (int i = 0; i < told.count && i < TOLD_MAX; i++)
        n += told.one[i].status == status && told.one[i].error == error;
    return n;
}

int async_open(enum async_mode mode, const char *path, uint32_t flags, int32_t partitions,
               const leat_producer_options *o) {
    const leat_options store = {
        .flags = flags,
        .seed = 1,
        .threads = mode == ALONE ? LEAT_NO_THREADS : 0,
        .clock = mode == ALONE ? LEAT_CLOCK_JUMP : LEAT_CLOCK_MANUAL,
        .callbacks = mode == THREADED ? LEAT_CALLBACKS_THREAD : LEAT_CALLBACKS_POLL,
    };
    memset(&told, 0, sizeof told);
    return fixture_open(path, &store, &(leat_topic_options){ .partitions = partitions }, o);
}

int async_pass(int64_t ms) {
    int rc = leat_clock_advance(mq, ms); // waits for the callback thread
    if (rc != 0)
        return rc;
    rc = leat_producer_poll(p, 0);
    return rc >= 0 || rc == LEAT_EINVAL ? 0 : rc;
}

int async_send(const char *value) {
    return leat_send_async(p, t, &(leat_record){ .value = leat_str(value) }, told_take, &told);
}

int async_number(int n, int32_t partition) {
    char text[16];
    (void)snprintf(text, sizeof text, "%d", n);
    const leat_record r = { .value = leat_str(text), .to_partition = LEAT_PARTITION(partition) };
    return leat_send_async(p, t, &r, told_take, &told);
}

int async_plain(const char *value) {
    return leat_send_async(p, t, &(leat_record){ .value = leat_str(value) }, NULL, NULL);
}

int64_t async_end(int32_t partition) {
    leat_range r;
    int rc = leat_topic_range(t, partition, &r);
    return rc == 0 ? r.end : rc;
}

leat_producer_stats async_stats(void) {
    leat_producer_stats s = { 0 };
    (void)leat_producer_get_stats(p, &s, sizeof s);
    return s;
}

int64_t async_now(void) {
    int64_t ms = -1;
    (void)leat_clock_now(mq, &ms, NULL);
    return ms;
}
