/* SPDX-License-Identifier: MIT */
// config_push: a changed setting reaches every part of the process at once. Each part subscribes to
// what concerns it, by name or by pattern, and is called before the publish returns. What to look
// at: nobody polls and nothing is stored; a part that is busy gets the latest value of each setting
// when it looks, and no older one.
#include "leat.h"

#include <stdio.h>
#include <stdlib.h>

static int must(int rc) {
    if (rc >= 0)
        return rc;
    fprintf(stderr, "%s: %s\n", leat_errname(rc), leat_errmsg());
    exit(1);
}

static void apply(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    printf("%s: %s is now " LEAT_FMT "\n", (const char *)ctx, m->topic, LEAT_ARG(m->value));
}

static void set(leat *mq, const char *name, const char *value) {
    int parts = must(leat_publish(mq, name, value, leat_str(value).size));
    printf("(%d part%s heard of %s)\n", parts, parts == 1 ? "" : "s", name);
}

int main(void) {
    static char log[] = "log", web[] = "web server";
    leat *mq;
    leat_subscription *logging, *server, *cache;
    leat_message m;
    must(leat_open_memory(NULL, &mq));
    must(leat_channel_subscribe(mq, "config.log.level", apply, log, NULL, &logging));
    must(leat_channel_subscribe(mq, "config.web.*", apply, web, NULL, &server));
    // The cache looks when it has time: of each setting the latest waits.
    leat_subscription_options latest = { .buffer = 16, .when_full = LEAT_KEEP_LATEST };
    must(leat_channel_subscribe(mq, "config.*", NULL, NULL, &latest, &cache));
    set(mq, "config.log.level", "debug");
    set(mq, "config.web.workers", "4");
    set(mq, "config.web.workers", "8");
    set(mq, "config.cache.megabytes", "64");
    must(leat_subscription_close(server, 0)); // on return it is not called any more
    set(mq, "config.web.workers", "16");
    while (must(leat_subscription_next(cache, 0, &m)) == 1) {
        printf("cache: %s is " LEAT_FMT "\n", m.topic, LEAT_ARG(m.value));
        must(leat_message_release(mq, &m));
    }
    return leat_close_all(mq, 0);
}
