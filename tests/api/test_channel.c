/* SPDX-License-Identifier: MIT */
// Channels as a user sees them: who hears what and in which order, what closing promises, and what
// a callback may do.
#include <leat.h>
#include <leat_test.h>

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// What happened, in order, as text: "a:hello b:hello " and so on. One thread only.
static char channel_diary[4096];

static void channel_note(const char *who, const char *what) {
    size_t used = strlen(channel_diary);
    snprintf(channel_diary + used, sizeof channel_diary - used, "%s:%s ", who, what);
}

// Says what the diary holds and begins a new page.
static const char *channel_read(void) {
    static char page[sizeof channel_diary];
    memcpy(page, channel_diary, sizeof page);
    channel_diary[0] = '\0';
    return page;
}

static void channel_write_down(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    char what[64];
    snprintf(what, sizeof what, LEAT_FMT "%s%s", LEAT_ARG(m->value), m->pattern ? "/" : "",
             m->pattern ? m->pattern : "");
    channel_note(ctx, what);
}

static void channel_ended(void *ctx) {
    channel_note(ctx, "end");
}

static leat *channel_store(void) {
    leat *mq;
    cr_assert_eq(leat_test_open(&mq), 0, "%s", leat_errmsg());
    channel_diary[0] = '\0';
    return mq;
}

static leat_subscription *channel_hear(leat *mq, const char *pattern, leat_message_fn fn,
                                       void *ctx) {
    leat_subscription *s;
    leat_subscription_options o = { .on_end = channel_ended };
    int rc = leat_channel_subscribe(mq, pattern, fn, ctx, &o, &s);
    cr_assert_eq(rc, 0, "%s: %s", pattern, leat_errmsg());
    return s;
}

static void channel_done(leat *mq) {
    cr_assert_eq(leat_close_all(mq, 0), 0, "%s", leat_errmsg());
}

static int channel_say(leat *mq, const char *channel, const char *text) {
    return leat_publish(mq, channel, text, strlen(text));
}

// ---- an allocator that counts

struct channel_memory {
    long asked, blocks; // allocations so far; blocks that are out
    long fail_from;     // this allocation and all later ones fail; 0: none
};

static void *channel_alloc(void *ctx, void *old, size_t size) {
    struct channel_memory *mem = ctx;
    if (size == 0) {
        mem->blocks -= old ? 1 : 0;
        free(old);
        return NULL;
    }
    mem->asked++;
    if (mem->fail_from && mem->asked >= mem->fail_from)
        return NULL;
    void *p = realloc(old, size);
    mem->blocks += p && !old ? 1 : 0;
    return p;
}

static leat *channel_counted_store(struct channel_memory *mem) {
    leat *mq;
    leat_options o = { .alloc = channel_alloc, .alloc_ctx = mem };
    cr_assert_eq(leat_open_memory(&o, &mq), 0, "%s", leat_errmsg());
    return mq;
}

// ---- who hears what

Test(channel, publish_tells_how_many_heard_it_and_late_ones_miss_it) {
    leat *mq = channel_store();
    cr_assert_eq(channel_say(mq, "news", "1"), 0);
    leat_subscription *a = channel_hear(mq, "news", channel_write_down, "a");
    cr_assert_eq(channel_say(mq, "news", "2"), 1);
    leat_subscription *b = channel_hear(mq, "news", channel_write_down, "b");
    cr_assert_eq(channel_say(mq, "news", "3"), 2);
    cr_assert_eq(channel_say(mq, "new", "4"), 0);
    cr_assert_eq(channel_say(mq, "newss", "5"), 0);
    cr_assert_eq(leat_subscription_close(a, 0), 0);
    cr_assert_eq(channel_say(mq, "news", "6"), 1);
    cr_assert_eq(leat_subscription_close(b, 0), 0);
    cr_assert_eq(channel_say(mq, "news", "7"), 0);
    cr_assert_str_eq(channel_read(), "a:2 a:3 b:3 a:end b:6 b:end ");
    channel_done(mq);
}

Test(channel, a_channel_and_a_pattern_that_both_match_get_a_call_each) {
    leat *mq = channel_store();
    (void)channel_hear(mq, "sensors.*", channel_write_down, "p");
    (void)channel_hear(mq, "sensors.kitchen", channel_write_down, "x");
    (void)channel_hear(mq, "*", channel_write_down, "all");
    (void)channel_hear(mq, "sensors.*", channel_write_down, "q");
    (void)channel_hear(mq, "sensors.kitchen", channel_write_down, "y");
    cr_assert_eq(channel_say(mq, "sensors.kitchen", "21"), 5);
    cr_assert_str_eq(channel_read(), "x:21 y:21 all:21/* p:21/sensors.* q:21/sensors.* ");
    cr_assert_eq(channel_say(mq, "sensors.hall.door", "0"), 3);
    cr_assert_str_eq(channel_read(), "all:0/* p:0/sensors.* q:0/sensors.* ");
    cr_assert_eq(channel_say(mq, "sensors", "-"), 1);
    cr_assert_str_eq(channel_read(), "all:-/* ");
    channel_done(mq);
    cr_assert_str_eq(channel_read(), "p:end x:end all:end q:end y:end ");
}

struct channel_copy {
    leat_message m;
    char value[16];
    int calls;
};

static void channel_take_copy(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct channel_copy *copy = ctx;
    copy->m = *m;
    if (m->value.data && m->value.size <= sizeof copy->value)
        memcpy(copy->value, m->value.data, m->value.size);
    copy->calls++;
}

// Patterns are found by what stands before their first special byte.
Test(channel, a_pattern_is_found_whatever_it_begins_with) {
    static const struct {
        const char *pattern, *heard, *missed;
    } cases[] = {
        { "*", "a", "" },
        { "a*", "ab", "b" },
        { "abc.*", "abc.d", "abc" },
        { "?bc", "xbc", "bc" },
        { "a[bc]d", "acd", "add" },
        { "a\\bc", "abc", "a" },
        { "[ab]*", "bcd", "cd" },
        { "a.b.c?", "a.b.cd", "a.b.c" },
    };
    enum { N = sizeof cases / sizeof *cases };
    leat_subscription *s[N];
    for (int left = N; left > 0; left--) { // all of them, then fewer and fewer
        leat *mq = channel_store();
        for (int i = 0; i < left; i++)
            s[i] = channel_hear(mq, cases[i].pattern, channel_write_down,
                                (char *)(uintptr_t)cases[i].pattern);
        for (int i = 0; i < left; i++) {
            char call[64];
            snprintf(call, sizeof call, "%s:x/%s ", cases[i].pattern, cases[i].pattern);
            (void)channel_say(mq, cases[i].heard, "x");
            cr_assert_not_null(strstr(channel_read(), call), "%s", call);
            if (cases[i].missed[0])
                (void)channel_say(mq, cases[i].missed, "x");
            cr_assert_null(strstr(channel_read(), call), "%s", call);
            cr_assert_eq(leat_subscription_close(s[i], 0), 0);
            (void)channel_read();
            (void)channel_say(mq, cases[i].heard, "x");
            cr_assert_null(strstr(channel_read(), call), "%s after its close", call);
        }
        cr_assert_eq(channel_say(mq, "a", "x"), 0);
        channel_done(mq);
    }
}

Test(channel, a_message_says_what_it_is) {
    leat *mq = channel_store();
    int64_t wall;
    cr_assert_eq(leat_clock_set_wall(mq, 1234567890123), 0);
    cr_assert_eq(leat_clock_now(mq, NULL, &wall), 0);
    struct channel_copy exact = { .calls = 0 }, glob = { .calls = 0 };
    (void)channel_hear(mq, "a.b", channel_take_copy, &exact);
    (void)channel_hear(mq, "a.?", channel_take_copy, &glob);
    static const char bytes[] = { 'x', '\0', '\xff', '\0' };
    const char *channel = "a.b";
    cr_assert_eq(leat_publish(mq, channel, bytes, sizeof bytes), 2);
    struct channel_copy *both[] = { &exact, &glob };
    for (int i = 0; i < 2; i++) {
        const leat_message *m = &both[i]->m;
        cr_assert_eq(both[i]->calls, 1);
        cr_assert_str_eq(m->topic, "a.b");
        cr_assert(m->value.data == (const void *)bytes && m->value.size == 4, "not the same bytes");
        cr_assert_eq(memcmp(both[i]->value, bytes, 4), 0);
        cr_assert(m->offset == -1 && m->timestamp_ms == wall && m->partition == 0);
        cr_assert(m->key.data == NULL && m->key.size == 0 && m->header_count == 0);
        cr_assert(m->view == 0 && m->receipt == 0 && m->deliveries == 0 && m->dropped == 0);
    }
    cr_assert_null(exact.m.pattern);
    cr_assert_not_null(glob.m.pattern);
    cr_assert_eq(leat_publish(mq, channel, "", 0), 2);
    cr_assert(exact.m.value.data != NULL && exact.m.value.size == 0, "an empty value is a value");
    cr_assert_eq(leat_publish(mq, channel, NULL, 0), 2);
    cr_assert(exact.m.value.data != NULL && exact.m.value.size == 0);
    cr_assert_eq(exact.calls, 3);
    channel_done(mq);
}

struct channel_kept {
    leat *mq;
    leat_message m;
    int rc;
};

static void channel_hold(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct channel_kept *kept = ctx;
    kept->rc = leat_message_hold(kept->mq, m, &kept->m);
}

Test(channel, a_held_message_outlives_publisher_and_subscription) {
    leat *mq = channel_store();
    struct channel_kept exact = { .mq = mq, .rc = -1 }, glob = { .mq = mq, .rc = -1 };
    leat_subscription *s[2];
    cr_assert_eq(leat_channel_subscribe(mq, "a.b", channel_hold, &exact, NULL, &s[0]), 0);
    cr_assert_eq(leat_channel_subscribe(mq, "a.*", channel_hold, &glob, NULL, &s[1]), 0);
    char channel[] = "a.b", value[] = "21.5";
    cr_assert_eq(leat_publish(mq, channel, value, 4), 2);
    memset(channel, 'z', sizeof channel - 1);
    memset(value, 'z', sizeof value - 1);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(leat_subscription_close(s[i], 0), 0);
    cr_assert(exact.rc == 0 && glob.rc == 0, "%s", leat_errmsg());
    cr_assert(exact.m.value.size == 4 && memcmp(exact.m.value.data, "21.5", 4) == 0);
    cr_assert(glob.m.value.size == 4 && memcmp(glob.m.value.data, "21.5", 4) == 0);
    cr_assert_str_eq(exact.m.topic, "a.b");
    cr_assert_null(exact.m.pattern);
    cr_assert_str_eq(glob.m.pattern, "a.*");
    cr_assert_eq(leat_message_release(mq, &exact.m), 0);
    cr_assert_eq(leat_message_release(mq, &exact.m), LEAT_ESTALE);
    cr_assert_eq(leat_message_release(mq, &glob.m), 0);
    channel_done(mq);
}

// ---- what is refused

Test(channel, wrong_arguments_are_refused_and_change_nothing) {
    leat *mq = channel_store();
    struct channel_copy got = { .calls = 0 };
    leat_subscription *s;
    static const char *const bad[] = { "", "a b", "a/b", "a\n", "\xc3\xa9", "a^b", "a]" };
    static const char *const globs[] = { "*", "a.?", "a[b]", "a\\b" };
    static const char *const bad_globs[] = { "* ", "*/", "a?{b}", "[!a]" };
    char name[251];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(leat_publish(mq, bad[i], "x", 1), LEAT_EINVAL, "'%s'", bad[i]);
        cr_assert_eq(leat_channel_subscribe(mq, bad[i], channel_take_copy, &got, NULL, &s),
                     LEAT_EINVAL, "'%s'", bad[i]);
        cr_assert_null(s);
    }
    for (size_t i = 0; i < sizeof bad_globs / sizeof bad_globs[0]; i++)
        cr_assert_eq(leat_channel_subscribe(mq, bad_globs[i], channel_take_copy, &got, NULL, &s),
                     LEAT_EINVAL, "'%s'", bad_globs[i]);
    for (int star = 0; star < 2; star++) {
        memset(name, 'a', 250);
        name[250] = '\0';
        name[0] = star ? '*' : 'a';
        cr_assert_eq(leat_channel_subscribe(mq, name, channel_take_copy, &got, NULL, &s),
                     LEAT_EINVAL);
        cr_assert_eq(leat_publish(mq, name, "x", 1), LEAT_EINVAL);
        name[249] = '\0';
        s = channel_hear(mq, name, channel_take_copy, &got);
        name[0] = 'a';
        cr_assert_eq(leat_publish(mq, name, "x", 1), 1);
        cr_assert_eq(leat_subscription_close(s, 0), 0);
    }
    got.calls = 0;
    (void)channel_hear(mq, "*", channel_take_copy, &got);
    for (size_t i = 0; i < sizeof globs / sizeof globs[0]; i++)
        cr_assert_eq(leat_publish(mq, globs[i], "x", 1), LEAT_EINVAL, "'%s'", globs[i]);
    cr_assert_eq(leat_publish(mq, NULL, "x", 1), LEAT_EINVAL);
    cr_assert_eq(leat_publish(NULL, "a", "x", 1), LEAT_EINVAL);
    cr_assert_eq(leat_publish(mq, "a", NULL, 1), LEAT_EINVAL);
    cr_assert_eq(got.calls, 0);
    cr_assert_eq(leat_channel_subscribe(NULL, "a", channel_take_copy, &got, NULL, &s), LEAT_EINVAL);
    cr_assert_eq(leat_channel_subscribe(mq, NULL, channel_take_copy, &got, NULL, &s), LEAT_EINVAL);
    cr_assert_eq(leat_channel_subscribe(mq, "a", NULL, &got, NULL, &s), LEAT_EINVAL);
    cr_assert_eq(leat_channel_subscribe(mq, "a", channel_take_copy, &got, NULL, NULL), LEAT_EINVAL);
    leat_subscription_options o = { .reserved = { [7] = 1 } };
    cr_assert_eq(leat_channel_subscribe(mq, "a", channel_take_copy, &got, &o, &s), LEAT_EINVAL);
    cr_assert_eq(leat_subscription_close(NULL, 0), LEAT_EINVAL);
    s = channel_hear(mq, "b", channel_take_copy, &got);
    cr_assert_eq(leat_subscription_close(s, -5), LEAT_EINVAL);
    cr_assert_eq(leat_publish(mq, "b", "x", 1), 2, "it is still open");
    cr_assert_eq(leat_subscription_close(s, 0), 0);
    cr_assert_eq(leat_publish(mq, "a", "x", 1), 1, "of all of these only the one pattern listens");
    channel_done(mq);
}

Test(channel, after_shutdown_only_closing_works) {
    leat *mq = channel_store();
    leat_subscription *a = channel_hear(mq, "a", channel_write_down, "a"), *none;
    (void)channel_hear(mq, "*", channel_write_down, "b");
    cr_assert_eq(leat_shutdown(mq), 0);
    cr_assert_eq(channel_say(mq, "a", "1"), LEAT_ECLOSED);
    cr_assert_eq(leat_channel_subscribe(mq, "a", channel_write_down, "c", NULL, &none),
                 LEAT_ECLOSED);
    cr_assert_null(none);
    cr_assert_eq(leat_subscription_close(a, 0), 0);
    cr_assert_str_eq(channel_read(), "a:end ");
    channel_done(mq);
    cr_assert_str_eq(channel_read(), "b:end ");
}

Test(channel, a_store_with_subscriptions_does_not_close_and_names_them) {
    leat *mq = channel_store();
    leat_subscription *s;
    leat_subscription_options o = { .name = "thermometer" };
    cr_assert_eq(leat_channel_subscribe(mq, "a", channel_write_down, "a", &o, &s), 0);
    cr_assert_eq(leat_close(mq, 0), LEAT_EBUSY);
    cr_assert(strstr(leat_errmsg(), "subscription") != NULL, "%s", leat_errmsg());
    cr_assert_eq(channel_say(mq, "a", "1"), 1, "it still works");
    cr_assert_eq(leat_subscription_close(s, 0), 0);
    cr_assert_eq(leat_close(mq, 0), 0, "%s", leat_errmsg());
}

Test(channel, a_forked_child_gets_nothing_but_its_memory_back) {
    struct channel_memory mem = { .asked = 0 };
    leat *mq = channel_counted_store(&mem);
    channel_diary[0] = '\0';
    leat_subscription *a = channel_hear(mq, "a", channel_write_down, "a"), *none;
    (void)channel_hear(mq, "a", channel_write_down, "b");
    (void)channel_hear(mq, "*", channel_write_down, "c");
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        int rc = leat_channel_subscribe(mq, "a", channel_write_down, "d", NULL, &none);
        bool ok = rc == LEAT_EFORK && channel_say(mq, "a", "1") == LEAT_EFORK &&
                  leat_subscription_close(a, 0) == LEAT_EFORK;
        ok = ok && leat_close_all(mq, 0) == 0 && mem.blocks == 0 && channel_diary[0] == '\0';
        _exit(ok ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    cr_assert_eq(channel_say(mq, "a", "1"), 3);
    channel_done(mq);
    cr_assert_eq(mem.blocks, 0);
}

// ---- inside a callback

struct channel_actor {
    leat *mq;
    const char *name;
    leat_subscription *victim;
    leat_consumer *consumer;
    int heard, rc;
    bool tried;
};

static void channel_close_victim(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)m;
    struct channel_actor *a = ctx;
    channel_note(a->name, "in");
    leat_subscription *victim = a->victim ? a->victim : s;
    if (!a->tried) {
        a->tried = true;
        a->rc = leat_subscription_close(victim, 0);
        a->heard = channel_say(a->mq, "c", "nested");
    }
    channel_note(a->name, "out");
}

static void channel_actor_ended(void *ctx) {
    channel_note(((struct channel_actor *)ctx)->name, "end");
}

static leat_subscription *channel_act(const char *pattern, leat_message_fn fn,
                                      struct channel_actor *a) {
    leat_subscription *s;
    leat_subscription_options o = { .on_end = channel_actor_ended };
    int rc = leat_channel_subscribe(a->mq, pattern, fn, a, &o, &s);
    cr_assert_eq(rc, 0, "%s", leat_errmsg());
    return s;
}

Test(channel, closing_itself_ends_after_the_callback_and_once) {
    leat *mq = channel_store();
    struct channel_actor a = { .mq = mq, .name = "a" };
    (void)channel_act("c", channel_close_victim, &a);
    (void)channel_hear(mq, "c", channel_write_down, "b");
    cr_assert_eq(channel_say(mq, "c", "1"), 2);
    cr_assert_str_eq(channel_read(), "a:in b:nested a:out a:end b:1 ");
    cr_assert(a.rc == 0 && a.heard == 1);
    cr_assert_eq(channel_say(mq, "c", "2"), 1);
    channel_done(mq);
    cr_assert_str_eq(channel_read(), "b:2 b:end ");
}

Test(channel, closing_another_stops_it_at_once) {
    static const struct {
        const char *victim, *actor; // victim first or last in order, by name or pattern
        bool victim_first;
        const char *diary;
    } cases[] = {
        { "c", "c", true, "v:1 a:in v:end a:in a:out a:out " },
        { "c", "c", false, "a:in v:end a:in a:out a:out " },
        { "c*", "c", true, "a:in v:end a:in a:out a:out " },
        { "c*", "c*", true, "v:1/c* a:in v:end a:in a:out a:out " },
        { "c", "[c]", false, "v:1 a:in v:end a:in a:out a:out " },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        leat *mq = channel_store();
        struct channel_actor a = { .mq = mq, .name = "a" };
        if (cases[i].victim_first)
            a.victim = channel_hear(mq, cases[i].victim, channel_write_down, "v");
        (void)channel_act(cases[i].actor, channel_close_victim, &a);
        if (!cases[i].victim_first)
            a.victim = channel_hear(mq, cases[i].victim, channel_write_down, "v");
        cr_assert_eq(channel_say(mq, "c", "1"), cases[i].diary[0] == 'v' ? 2 : 1, "case %zu", i);
        cr_assert_str_eq(channel_read(), cases[i].diary, "case %zu", i);
        cr_assert(a.rc == 0 && a.heard == 1);
        cr_assert_eq(channel_say(mq, "c", "2"), 1);
        channel_done(mq);
        cr_assert_str_eq(channel_read(), "a:in a:out a:end ");
    }
}

static void channel_pass_on(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    struct channel_actor *a = ctx;
    channel_note(a->name, "in");
    a->heard = channel_say(a->mq, "inner", "x");
    channel_note(a->name, "out");
}

Test(channel, one_that_runs_further_down_the_stack_ends_when_it_returns) {
    leat *mq = channel_store();
    struct channel_actor outer = { .mq = mq, .name = "o" }, inner = { .mq = mq, .name = "i" };
    inner.victim = channel_act("outer", channel_pass_on, &outer);
    leat_subscription *s = channel_act("inner", channel_close_victim, &inner);
    cr_assert_eq(channel_say(mq, "outer", "1"), 1);
    cr_assert_str_eq(channel_read(), "o:in i:in i:out o:out o:end ");
    cr_assert_eq(channel_say(mq, "outer", "1"), 0);
    cr_assert_eq(leat_subscription_close(s, 0), 0);
    channel_done(mq);
}

static void channel_subscribe_more(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    struct channel_actor *a = ctx;
    leat_subscription *more;
    a->heard++;
    a->rc |= leat_channel_subscribe(a->mq, a->heard % 2 ? "c" : "*", channel_subscribe_more, a,
                                    NULL, &more);
}

Test(channel, who_subscribes_inside_a_publish_hears_only_the_next) {
    leat *mq = channel_store();
    struct channel_actor a = { .mq = mq, .name = "a" };
    (void)channel_act("c", channel_subscribe_more, &a);
    int expected = 1;
    for (int i = 0; i < 8; i++, expected *= 2)
        cr_assert_eq(channel_say(mq, "c", "x"), expected, "round %d", i);
    cr_assert(a.rc == 0 && a.heard == expected - 1);
    channel_done(mq);
}

static void channel_go_down(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct channel_actor *a = ctx;
    const char *left = m->value.data;
    if (m->value.size > 0)
        a->heard += leat_publish(a->mq, "c", left, m->value.size - 1);
    channel_note(a->name, m->value.size > 0 ? "up" : "bottom");
}

Test(channel, publishing_to_its_own_channel_nests) {
    leat *mq = channel_store();
    struct channel_actor a = { .mq = mq, .name = "a" };
    (void)channel_act("c", channel_go_down, &a);
    cr_assert_eq(leat_publish(mq, "c", "xxx", 3), 1);
    cr_assert_str_eq(channel_read(), "a:bottom a:up a:up a:up ");
    cr_assert_eq(a.heard, 3);
    channel_done(mq);
}

static void channel_do_forbidden(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    (void)m;
    struct channel_actor *a = ctx;
    a->heard = leat_close(a->mq, 0) == LEAT_EDEADLK;
    a->heard += leat_close_all(a->mq, 0) == LEAT_EDEADLK;
    a->heard += leat_clock_advance(a->mq, 1) == LEAT_EDEADLK;
    const leat_message *none;
    a->heard += leat_poll(a->consumer, 0, &none) == LEAT_EDEADLK;
    a->heard += leat_consumer_close(a->consumer) == LEAT_EDEADLK;
    a->heard += leat_clock_now(a->mq, NULL, NULL) == 0; // [cb]
}

Test(channel, what_would_wait_is_refused_inside_a_callback) {
    leat *mq = channel_store();
    struct channel_actor a = { .mq = mq, .name = "a" };
    cr_assert_eq(leat_consumer_open(mq, NULL, NULL, &a.consumer), 0, "%s", leat_errmsg());
    (void)channel_act("c", channel_do_forbidden, &a);
    cr_assert_eq(channel_say(mq, "c", "x"), 1);
    cr_assert_eq(a.heard, 6, "%d of 6", a.heard);
    cr_assert_eq(channel_say(mq, "c", "x"), 1, "and they did nothing");
    channel_done(mq);
}

// ---- many

struct channel_crowd {
    leat_subscription *s;
    int channel, calls; // channel -1: the pattern
    bool open;
};

static int channel_calls_in_order; // the highest index that was called in this publish
static bool channel_out_of_order;

static struct channel_crowd channel_crowd[1000];

static void channel_count(leat_subscription *s, const leat_message *m, void *ctx) {
    (void)s;
    struct channel_crowd *one = ctx;
    one->calls++;
    int index = (int)(one - channel_crowd) + (m->pattern ? 1000 : 0); // patterns come behind
    channel_out_of_order |= index <= channel_calls_in_order;
    channel_calls_in_order = index;
}

static void channel_check_crowd(leat *mq) {
    for (int c = 0; c < 300; c++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", c);
        int expected = 0;
        for (int i = 0; i < 1000; i++) {
            channel_crowd[i].calls = 0;
            expected += channel_crowd[i].open &&
                        (channel_crowd[i].channel == c || channel_crowd[i].channel < 0);
        }
        channel_calls_in_order = -1;
        channel_out_of_order = false;
        cr_assert_eq(channel_say(mq, name, "x"), expected, "channel %d", c);
        cr_assert(!channel_out_of_order, "channel %d", c);
        for (int i = 0; i < 1000; i++) {
            const struct channel_crowd *one = &channel_crowd[i];
            bool hears = one->open && (one->channel == c || one->channel < 0);
            cr_assert_eq(one->calls, hears ? 1 : 0, "channel %d, subscription %d", c, i);
        }
    }
}

Test(channel, a_thousand_come_in_order_and_go_in_any_order) {
    leat *mq = channel_store();
    uint32_t chance = 1;
    for (int i = 0; i < 1000; i++) {
        char name[16] = "*";
        struct channel_crowd *one = &channel_crowd[i];
        *one = (struct channel_crowd){ .channel = i % 10 == 9 ? -1 : (i * 7) % 300, .open = true };
        if (one->channel >= 0)
            snprintf(name, sizeof name, "c%d", one->channel);
        cr_assert_eq(leat_channel_subscribe(mq, name, channel_count, one, NULL, &one->s), 0);
    }
    channel_check_crowd(mq);
    for (int left = 1000; left > 0; left--) {
        chance = chance * 1664525u + 1013904223u;
        int skip = (int)((chance >> 8) % (uint32_t)left), i = 0;
        for (; !channel_crowd[i].open || skip > 0; i++)
            skip -= channel_crowd[i].open ? 1 : 0;
        cr_assert_eq(leat_subscription_close(channel_crowd[i].s, 0), 0);
        channel_crowd[i].open = false;
        if (left % 200 == 1)
            channel_check_crowd(mq);
    }
    cr_assert_eq(leat_close(mq, 0), 0, "%s", leat_errmsg());
}

// ---- memory

Test(channel, without_memory_subscribing_fails_and_changes_nothing) {
    struct channel_memory mem = { .asked = 0 };
    leat *mq = channel_counted_store(&mem);
    struct channel_copy got = { .calls = 0 };
    leat_subscription *s;
    int failures = 0;
    for (int i = 0; i < 40; i++) { // past the growth of every table
        char name[16] = "c*";
        if (i % 4 != 3)
            snprintf(name, sizeof name, "c%d", i);
        int before = channel_say(mq, i % 4 == 3 ? "c" : name, "x");
        for (int k = 1;; k++) {
            mem.fail_from = mem.asked + k;
            long blocks = mem.blocks;
            int rc = leat_channel_subscribe(mq, name, channel_take_copy, &got, NULL, &s);
            mem.fail_from = 0;
            if (rc == 0)
                break;
            cr_assert_eq(rc, LEAT_ENOMEM);
            cr_assert_null(s);
            cr_assert_leq(mem.blocks, blocks, "memory is left behind");
            cr_assert_eq(channel_say(mq, i % 4 == 3 ? "c" : name, "x"), before);
            failures++;
        }
        cr_assert_eq(channel_say(mq, i % 4 == 3 ? "c" : name, "x"), before + 1);
    }
    cr_assert_geq(failures, 70, "only %d allocations failed", failures);
    cr_assert_eq(leat_close_all(mq, 0), 0);
    cr_assert_eq(mem.blocks, 0);
}

Test(channel, publishing_and_closing_allocate_nothing_and_memory_comes_back) {
    enum { N = 3000 };
    static leat_subscription *s[N];
    struct channel_memory mem = { .asked = 0 };
    leat *mq = channel_counted_store(&mem);
    struct channel_copy got = { .calls = 0 };
    long blocks = mem.blocks;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            char name[16];
            snprintf(name, sizeof name, i % 50 ? "c%d" : "%d*", i % 1500);
            cr_assert_eq(leat_channel_subscribe(mq, name, channel_take_copy, &got, NULL, &s[i]), 0);
        }
        long asked = mem.asked;
        mem.fail_from = 1;
        cr_assert_eq(channel_say(mq, "c7", "x"), 2);
        for (int i = 0; i < N; i++)
            cr_assert_eq(leat_subscription_close(s[i], 0), 0);
        cr_assert_eq(channel_say(mq, "c7", "x"), 0);
        mem.fail_from = 0;
        cr_assert_eq(mem.asked, asked);
        cr_assert_leq(mem.blocks, blocks + 2, "%ld blocks more", mem.blocks - blocks); // tables
    }
    for (int i = 0; i < 20000; i++) { // names that come and go do not fill the table up
        char name[16];
        snprintf(name, sizeof name, "d%d", i);
        cr_assert_eq(leat_channel_subscribe(mq, name, channel_take_copy, &got, NULL, &s[0]), 0);
        cr_assert_eq(channel_say(mq, name, "x"), 1);
        cr_assert_eq(leat_subscription_close(s[0], 0), 0);
        cr_assert_leq(mem.blocks, blocks + 2);
    }
    cr_assert_eq(leat_close(mq, 0), 0);
    cr_assert_eq(mem.blocks, 0);
}

// ---- trace

static void channel_traced(const leat_trace_event *e, void *ctx) {
    (void)ctx;
    if (strcmp(e->event, "open") == 0 || strcmp(e->event, "close") == 0)
        return;
    char text[64];
    snprintf(text, sizeof text, "%s(%s)", e->event, e->topic ? e->topic : "");
    channel_note(e->who ? e->who : "", text);
}

Test(channel, changes_and_publishes_are_traced) {
    leat *mq;
    leat_options o = { .trace = channel_traced };
    cr_assert_eq(leat_open_memory(&o, &mq), 0, "%s", leat_errmsg());
    channel_diary[0] = '\0';
    leat_subscription_options named = { .name = "gauge" };
    leat_subscription *a, *b;
    cr_assert_eq(leat_channel_subscribe(mq, "t.*", channel_write_down, "a", &named, &a), 0);
    cr_assert_eq(leat_channel_subscribe(mq, "t.x", channel_write_down, "b", NULL, &b), 0);
    cr_assert_eq(channel_say(mq, "t.x", "1"), 2);
    cr_assert_eq(channel_say(mq, "nobody", "1"), 0);
    cr_assert_eq(leat_subscription_close(a, 0), 0);
    cr_assert_eq(leat_subscription_close(b, 0), 0);
    cr_assert_str_eq(channel_read(), "gauge:subscribe(t.*) t.x:subscribe(t.x) t.x:publish(t.x) b:1 "
                                     "a:1/t.* nobody:publish(nobody) gauge:unsubscribe(t.*) "
                                     "t.x:unsubscribe(t.x) ");
    cr_assert_eq(leat_close(mq, 0), 0);
}
