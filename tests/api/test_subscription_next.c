/* SPDX-License-Identifier: MIT */
// The pulling side of a subscription: what next gives and how long it lives, waiting, the
// descriptor, what is refused.
#include "lib/mail.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

static const leat_subscription_options next_roomy = { .buffer = 100 };

static void next_open(struct mail_ear *e, enum mail_kind kind, const char *pattern) {
    mail_ear_init(e, mail_store(kind), false);
    mail_listen(e, pattern, NULL, next_roomy);
}

static void next_done(struct mail_ear *e) {
    cr_assert(leat_subscription_close(e->s, 0) >= 0, "%s", leat_errmsg());
    ok(leat_close(e->mq, 0));
}

Test(subscription_next, gives_what_was_published_in_order_and_as_it_was) {
    struct mail_ear e;
    next_open(&e, MAIL_ALONE, "a.*");
    char channel[] = "a.b", value[] = "v\0w", key[] = "k", name[] = "n", text[] = "t";
    leat_header header[] = { { { name, 1 }, { text, 1 } }, { { "null", 4 }, { NULL, 0 } } };
    leat_record r = { .key = { key, 1 },
                      .value = { value, 3 },
                      .headers = header,
                      .header_count = 2,
                      .timestamp_ms = 77 };
    gives(1, leat_publish_record(e.mq, channel, &r));
    gives(1, leat_publish(e.mq, channel, NULL, 0));
    memset(channel, 'z', 3);
    memset(value, 'z', 3);
    key[0] = name[0] = text[0] = 'z';
    leat_message m, kept;
    leat_header h;
    gives(1, leat_subscription_next(e.s, 0, &m));
    cr_assert_str_eq(m.topic, "a.b");
    cr_assert_str_eq(m.pattern, "a.*");
    cr_assert(m.value.size == 3 && memcmp(m.value.data, "v\0w", 4) == 0, "a NUL behind it");
    cr_assert(m.key.size == 1 && memcmp(m.key.data, "k", 2) == 0);
    cr_assert(m.offset == -1 && m.timestamp_ms == 77 && m.dropped == 0 && m.header_count == 2);
    cr_assert_eq(leat_message_header(&m, 0, &h), 1);
    cr_assert(h.name.size == 1 && memcmp(h.name.data, "n", 2) == 0 && h.value.size == 1 &&
              memcmp(h.value.data, "t", 2) == 0);
    cr_assert_eq(leat_message_header(&m, 1, &h), 1);
    cr_assert(memcmp(h.name.data, "null", 5) == 0 && h.value.data == NULL);
    cr_assert_eq(leat_message_header(&m, 2, &h), 0);
    ok(leat_message_hold(e.mq, &m, &kept));
    cr_assert(kept.value.data == m.value.data, "the same bytes");
    ok(leat_message_release(e.mq, &m));
    gives(LEAT_ESTALE, leat_message_release(e.mq, &m));
    gives(1, leat_subscription_next(e.s, 0, &m));
    cr_assert(m.value.data && m.value.size == 0 && m.key.data == NULL && m.timestamp_ms > 77);
    gives(0, leat_subscription_close(e.s, 0));
    gives(LEAT_EBUSY, leat_close(e.mq, 0)); // two views are out
    cr_assert_str_eq(kept.pattern, "a.*");
    cr_assert_eq(leat_message_header(&kept, 0, &h), 1);
    cr_assert(h.value.size == 1 && *(const char *)h.value.data == 't');
    ok(leat_message_release(e.mq, &m));
    ok(leat_message_release(e.mq, &kept));
    ok(leat_close(e.mq, 0));
}

Test(subscription_next, one_copy_serves_all_and_each_says_its_own_pattern) {
    leat *mq = mail_store(MAIL_ALONE);
    struct mail_ear e[3];
    static const char *const pattern[] = { "a", "a*", "?" };
    for (int i = 0; i < 3; i++) {
        mail_ear_init(&e[i], mq, false);
        mail_listen(&e[i], pattern[i], NULL, next_roomy);
    }
    gives(3, mail_say(mq, "a", "1"));
    leat_message m[3];
    for (int i = 0; i < 3; i++) {
        gives(1, leat_subscription_next(e[i].s, 0, &m[i]));
        cr_assert(m[i].value.data == m[0].value.data, "a copy of its own");
        cr_assert(i == 0 ? m[i].pattern == NULL : strcmp(m[i].pattern, pattern[i]) == 0);
    }
    gives(LEAT_EBUSY, leat_close(mq, 0));
    gives(0, leat_close_all(mq, 0)); // ends the views
}

Test(subscription_next, tells_what_came_to_an_end) {
    for (int n = 1; n <= 3; n += 2) {
        struct mail_ear e;
        mail_ear_init(&e, mail_store(MAIL_ALONE), false);
        mail_listen(&e, "c", NULL, (leat_subscription_options){ .buffer = 100, .stop_after = n });
        gives(n, mail_count(e.mq, "c", 1, 5));
        gives(0, leat_channel_count(e.mq, "c"));
        cr_assert_eq(atomic_load(&e.ends), 0);
        leat_message m;
        for (int i = 1; i <= n; i++) {
            cr_assert_eq(atomic_load(&e.ends), 0);
            gives(1, leat_subscription_next(e.s, 0, &m));
            ok(leat_message_release(e.mq, &m));
        }
        cr_assert_eq(atomic_load(&e.ends), 1, "at once when the last was taken");
        for (int i = 0; i < 2; i++)
            gives(LEAT_EGONE, leat_subscription_next(e.s, LEAT_FOREVER, &m));
        gives(0, mail_say(e.mq, "c", "9"));
        gives(0, leat_subscription_close(e.s, 0));
        cr_assert_eq(atomic_load(&e.ends), 1);
        ok(leat_close(e.mq, 0));
    }
}

static void next_close_at_end(void *ctx) {
    struct mail_ear *e = ctx;
    atomic_fetch_add(&e->ends, leat_subscription_close(e->s, 0) == 0 ? 1 : 100);
}

Test(subscription_next, on_end_may_close_it) {
    struct mail_ear e;
    mail_ear_init(&e, mail_store(MAIL_ALONE), false);
    leat_subscription_options o = { .buffer = 9, .stop_after = 1, .on_end = next_close_at_end };
    ok(leat_channel_subscribe(e.mq, "c", NULL, &e, &o, &e.s));
    gives(1, mail_say(e.mq, "c", "1"));
    leat_message m;
    gives(1, leat_subscription_next(e.s, 0, &m));
    cr_assert_eq(atomic_load(&e.ends), 1);
    ok(leat_message_release(e.mq, &m));
    ok(leat_close(e.mq, 0));
}

// ---- waiting

struct next_call {
    leat_subscription *s;
    int64_t timeout_ms;
    int rc;
    leat_message m;
    atomic_bool done;
};

static void *next_once(void *ctx) {
    struct next_call *call = ctx;
    call->rc = leat_subscription_next(call->s, call->timeout_ms, &call->m);
    atomic_store(&call->done, true);
    return NULL;
}

Test(subscription_next, waits_for_a_message_for_its_time_or_for_a_shutdown) {
    struct mail_ear e;
    next_open(&e, MAIL_THREADED, "c");
    struct next_call call = { .s = e.s, .timeout_ms = 100 };
    leat_message m;
    gives(0, leat_subscription_next(e.s, 0, &m));
    for (int how = 0; how < 3; how++) {
        pthread_t t = mail_start(next_once, &call);
        ok(leat_clock_wait_blocked(e.mq, 1, 10000));
        gives(LEAT_EBUSY, leat_subscription_next(e.s, 0, &m));
        gives(LEAT_EBUSY, leat_subscription_close(e.s, 0));
        gives(LEAT_EBUSY, leat_close_all(e.mq, 0));
        if (how == 0) {
            gives(1, mail_say(e.mq, "c", "1"));
        } else if (how == 1) {
            ok(leat_clock_advance(e.mq, 99));
            cr_assert(!atomic_load(&call.done));
            ok(leat_clock_advance(e.mq, 1));
        } else {
            ok(leat_shutdown(e.mq));
        }
        mail_join(t);
        cr_assert_eq(call.rc, how == 0 ? 1 : how == 1 ? 0 : LEAT_ECLOSED);
        if (how == 0)
            ok(leat_message_release(e.mq, &call.m));
        atomic_store(&call.done, false);
    }
    gives(LEAT_ECLOSED, leat_subscription_next(e.s, 0, &m));
    gives(LEAT_ECLOSED, leat_subscription_fd(e.s));
    next_done(&e);
}

Test(subscription_next, on_a_jumping_clock_says_that_nothing_can_come) {
    struct mail_ear e;
    next_open(&e, MAIL_ALONE, "c");
    leat_message m;
    int64_t before, after;
    ok(leat_clock_now(e.mq, &before, NULL));
    gives(LEAT_EDEADLK, leat_subscription_next(e.s, LEAT_FOREVER, &m));
    gives(0, leat_subscription_next(e.s, 5000, &m));
    ok(leat_clock_now(e.mq, &after, NULL));
    cr_assert_eq(after - before, 5000);
    next_done(&e);
}

// ---- the descriptor

static bool next_bright(int fd) {
    struct pollfd one = { .fd = fd, .events = POLLIN };
    return poll(&one, 1, 0) == 1;
}

Test(subscription_next, a_descriptor_is_readable_while_there_is_something) {
    struct mail_ear e;
    next_open(&e, MAIL_ALONE, "c");
    leat_message m;
    int fd = leat_subscription_fd(e.s);
    cr_assert_geq(fd, 0, "%s", leat_errmsg());
    cr_assert_eq(leat_subscription_fd(e.s), fd);
    for (int round = 0; round < 2; round++) {
        gives(0, leat_subscription_next(e.s, 0, &m));
        cr_assert(!next_bright(fd));
        gives(2, mail_count(e.mq, "c", 1, 2));
        for (int i = 0; i < 2; i++) {
            cr_assert(next_bright(fd));
            gives(1, leat_subscription_next(e.s, 0, &m));
            ok(leat_message_release(e.mq, &m));
        }
        cr_assert(!next_bright(fd));
    }
    ok(leat_shutdown(e.mq));
    cr_assert(next_bright(fd), "who sleeps in poll(2) is woken");
    next_done(&e);
}

Test(subscription_next, a_descriptor_says_that_the_last_one_came) {
    struct mail_ear e;
    mail_ear_init(&e, mail_store(MAIL_ALONE), false);
    mail_listen(&e, "c", NULL, (leat_subscription_options){ .buffer = 9, .stop_after = 1 });
    int fd = leat_subscription_fd(e.s);
    leat_message m;
    gives(0, leat_subscription_next(e.s, 0, &m));
    cr_assert(!next_bright(fd));
    gives(1, mail_say(e.mq, "c", "1"));
    gives(1, leat_subscription_next(e.s, 0, &m));
    ok(leat_message_release(e.mq, &m));
    cr_assert(next_bright(fd));
    gives(LEAT_EGONE, leat_subscription_next(e.s, 0, &m));
    cr_assert(next_bright(fd));
    next_done(&e);
}

// ---- what is refused

struct next_tried {
    struct mail_ear *e;
    int next, stats;
};

static void next_try_inside(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    struct next_tried *tried = ctx;
    leat_message got;
    leat_subscription_stats st;
    tried->next = leat_subscription_next(tried->e->s, 0, &got);
    tried->stats = leat_subscription_get_stats(tried->e->s, &st, sizeof st);
}

Test(subscription_next, wrong_arguments_are_refused) {
    leat *mq = mail_store(MAIL_ALONE);
    struct mail_ear e, called, in;
    mail_ear_init(&e, mq, false);
    mail_ear_init(&called, mq, false);
    mail_ear_init(&in, mq, false);
    mail_listen(&e, "c", NULL, next_roomy);
    mail_listen(&called, "c", mail_hear, next_roomy);
    mail_listen(&in, "c", mail_hear, (leat_subscription_options){ .buffer = 0 });
    leat_message m;
    leat_subscription_stats st;
    gives(3, mail_say(mq, "c", "1"));
    gives(LEAT_EINVAL, leat_subscription_next(NULL, 0, &m));
    gives(LEAT_EINVAL, leat_subscription_next(e.s, 0, NULL));
    gives(LEAT_EINVAL, leat_subscription_next(e.s, -7, &m));
    gives(LEAT_EINVAL, leat_subscription_next(called.s, 0, &m));
    gives(LEAT_EINVAL, leat_subscription_next(in.s, 0, &m));
    gives(LEAT_EINVAL, leat_subscription_fd(NULL));
    gives(LEAT_EINVAL, leat_subscription_fd(called.s));
    gives(LEAT_EINVAL, leat_subscription_fd(in.s));
    gives(LEAT_EINVAL, leat_subscription_get_stats(NULL, &st, sizeof st));
    gives(LEAT_EINVAL, leat_subscription_get_stats(e.s, NULL, sizeof st));
    gives(LEAT_EINVAL, leat_subscription_get_stats(e.s, &st, 8));
    gives(LEAT_EINVAL, leat_subscription_get_stats(in.s, &st, sizeof st));
    struct next_tried tried = { .e = &e };
    leat_subscription *s;
    ok(leat_channel_subscribe(mq, "go", next_try_inside, &tried, NULL, &s));
    gives(1, mail_say(mq, "go", ""));
    cr_assert_eq(tried.next, LEAT_EDEADLK);
    cr_assert_eq(tried.stats, 0);
    mail_pull(&e);
    cr_assert_str_eq(e.diary, "1 ", "none of these took it");
    gives(1, leat_close_all(mq, 0));
}

Test(subscription_next, wrong_records_are_refused_and_nobody_hears_them) {
    struct mail_ear e;
    next_open(&e, MAIL_ALONE, "c");
    static char big[64 * 1024 + 1];
    leat_header many[65], nameless = { { NULL, 0 }, { "x", 1 } },
                          hollow = { { "n", 1 }, { NULL, 1 } };
    for (int i = 0; i < 65; i++)
        many[i] = (leat_header){ { "n", 1 }, { "v", 1 } };
    leat_header huge[2] = { { { "n", 1 }, { big, 16 * 1024 * 1024 } }, many[0] };
    const leat_bytes v = { "v", 1 };
    const struct {
        leat_record r;
        int rc;
    } cases[] = {
        { { .value = { NULL, 3 } }, LEAT_EINVAL },
        { { .key = { NULL, 3 }, .value = v }, LEAT_EINVAL },
        { { .value = { NULL, 0 } }, LEAT_EINVAL },
        { { .value = v, .to_partition = 1 }, LEAT_EINVAL },
        { { .value = v, .priority = 1 }, LEAT_EINVAL },
        { { .value = v, .delay_ms = 1 }, LEAT_EINVAL },
        { { .value = v, .group = v }, LEAT_EINVAL },
        { { .value = v, .dedup_id = v }, LEAT_EINVAL },
        { { .value = v, .timestamp_ms = -1 }, LEAT_EINVAL },
        { { .value = v, .reserved = { [3] = 1 } }, LEAT_EINVAL },
        { { .value = v, .header_count = 1 }, LEAT_EINVAL },
        { { .value = v, .headers = &nameless, .header_count = 1 }, LEAT_EINVAL },
        { { .value = v, .headers = &hollow, .header_count = 1 }, LEAT_EINVAL },
        { { .value = v, .headers = many, .header_count = 65 }, LEAT_ETOOBIG },
        { { .value = v, .headers = huge, .header_count = 2 }, LEAT_ETOOBIG },
        { { .value = { big, 16 * 1024 * 1024 + 1 } }, LEAT_ETOOBIG },
        { { .value = { big, SIZE_MAX } }, LEAT_ETOOBIG },
        { { .key = { big, sizeof big }, .value = v }, LEAT_ETOOBIG },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_eq(leat_publish_record(e.mq, "c", &cases[i].r), cases[i].rc, "case %zu: %s", i,
                     leat_errmsg());
    leat_record good = { .value = v, .headers = many, .header_count = 64 };
    gives(LEAT_EINVAL, leat_publish_record(NULL, "c", &good));
    gives(LEAT_EINVAL, leat_publish_record(e.mq, NULL, &good));
    gives(LEAT_EINVAL, leat_publish_record(e.mq, "c*", &good));
    gives(LEAT_EINVAL, leat_publish_record(e.mq, "c", NULL));
    leat_message m;
    gives(0, leat_subscription_next(e.s, 0, &m));
    gives(1, leat_publish_record(e.mq, "c", &good));
    gives(1, leat_publish_record(e.mq, "c", &(leat_record){ .key = { big, 64 * 1024 } }));
    gives(1, leat_subscription_next(e.s, 0, &m));
    cr_assert_eq(m.header_count, 64);
    ok(leat_message_release(e.mq, &m));
    gives(1, leat_subscription_next(e.s, 0, &m));
    cr_assert(m.value.data == NULL && m.key.size == 64 * 1024);
    ok(leat_message_release(e.mq, &m));
    ok(leat_shutdown(e.mq));
    gives(LEAT_ECLOSED, leat_publish_record(e.mq, "c", &good));
    next_done(&e);
}

Test(subscription_next, wrong_options_are_refused) {
    leat *mq = mail_store(MAIL_ALONE);
    static const leat_subscription_options bad[] = {
        { .buffer = 0 }, // with no callback
        { .buffer = -2 },
        { .buffer_bytes = -2 },
        { .buffer = 1, .when_full = -1 },
        { .buffer = 1, .when_full = 6 },
        { .buffer = 1, .block_ms = 5 },
        { .buffer = 1, .when_full = LEAT_BLOCK, .block_ms = -3 },
        { .buffer = 1, .stop_after = -1 },
        { .buffer = 1, .reserved = { 1 } },
    };
    leat_subscription *s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_eq(leat_channel_subscribe(mq, "c", NULL, NULL, &bad[i], &s), LEAT_EINVAL,
                     "case %zu", i);
        cr_assert_null(s);
    }
    leat_subscription_options inline_full = { .when_full = LEAT_FAIL };
    gives(LEAT_EINVAL, leat_channel_subscribe(mq, "c", mail_hear, NULL, &inline_full, &s));
    gives(0, mail_say(mq, "c", "1"));
    ok(leat_close(mq, 0));
}

Test(subscription_next, a_forked_child_gets_nothing_but_its_memory_back) {
    struct mail_memory mem = { .blocks = 0 };
    leat *mq = mail_store_of(MAIL_POLLED, &mem);
    struct mail_ear e, done;
    mail_ear_init(&e, mq, false);
    mail_ear_init(&done, mq, false);
    mail_listen(&e, "c", NULL, next_roomy);
    mail_listen(&done, "d", NULL, (leat_subscription_options){ .buffer = 9, .stop_after = 1 });
    gives(3, mail_count(mq, "c", 1, 3));
    gives(1, mail_count(mq, "d", 1, 1)); // it is in no list any more
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        leat_message m;
        leat_subscription_stats st;
        leat_record r = { .value = { "x", 1 } };
        bool good = leat_subscription_next(e.s, 0, &m) == LEAT_EFORK &&
                    leat_subscription_fd(e.s) == LEAT_EFORK &&
                    leat_subscription_get_stats(e.s, &st, sizeof st) == LEAT_EFORK &&
                    leat_publish_record(mq, "c", &r) == LEAT_EFORK &&
                    leat_subscription_close(e.s, 0) == LEAT_EFORK &&
                    leat_subscription_close(done.s, 0) == LEAT_EFORK;
        _exit(good && leat_close_all(mq, 0) == 0 && atomic_load(&mem.blocks) == 0 ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    mail_pull(&e);
    cr_assert_str_eq(e.diary, "1 2 3 ");
    gives(1, leat_close_all(mq, 0));
    cr_assert_eq(atomic_load(&mem.blocks), 0);
}
