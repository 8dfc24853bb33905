/* SPDX-License-Identifier: MIT */
// glib: GAsyncQueue, which takes pointers: each value is a copy, allocated by who pushes it and
// freed by who pops it. Unbounded, as it comes.
#include "flow.h"
#include "peers.h"

#include <glib.h>

static void glib_put(void *queue, const unsigned char *value) {
    g_async_queue_push(queue, g_memdup2(value, VALUE));
}

static size_t glib_take(void *queue, struct tally *seen) {
    void *value = g_async_queue_pop(queue);
    tally_add(seen, value, VALUE);
    g_free(value);
    return 1;
}

static void *glib_produce(void *arg) {
    return flow_produce(arg, glib_put);
}

void glib_stream(struct run *r) {
    GAsyncQueue *queue = g_async_queue_new();
    flow_run(r, queue, glib_produce, glib_take);
    g_async_queue_unref(queue);
}
