/* SPDX-License-Identifier: MIT */
// sqlite: a table as a log and as a queue, as a careful user sets it: one connection that owns the
// database (locking_mode=EXCLUSIVE: no lock calls and no shared memory for others), prepared
// statements, a transaction for each thing that must not be lost; on disk journal_mode=WAL, with
// checkpoints as they come. synchronous NORMAL survives kill -9 but not power loss, FULL both. A
// message that is received is leased until a time, and counted; what is done with a delivery that
// is not the last one deletes nothing.
#include "durable.h"
#include "payload.h"
#include "peers.h"

#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

struct base {
    sqlite3 *db;
    sqlite3_stmt *insert, *lease, *done, *begin, *commit;
    pthread_mutex_t lock; // of all, where there are threads: there is one writer at a time anyway
};

static void ok(struct base *b, int rc, const char *what) {
    if (rc != SQLITE_OK && rc != SQLITE_DONE)
        fail("%s: %s", what, sqlite3_errmsg(b->db));
}

static void run_sql(struct base *b, const char *text) {
    ok(b, sqlite3_exec(b->db, text, NULL, NULL, NULL), text);
}

static sqlite3_stmt *prepared(struct base *b, const char *text) {
    sqlite3_stmt *s;
    ok(b, sqlite3_prepare_v3(b->db, text, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL), text);
    return s;
}

static void step(struct base *b, sqlite3_stmt *s) {
    ok(b, sqlite3_step(s), sqlite3_sql(s));
    ok(b, sqlite3_reset(s), sqlite3_sql(s));
}

static void insert(struct base *b, const void *value, size_t size) {
    ok(b, sqlite3_bind_blob(b->insert, 1, value, (int)size, SQLITE_STATIC), "bind");
    step(b, b->insert);
}

// synchronous NULL: in memory.
static void base_open(struct base *b, const char *dir, const char *synchronous) {
    char text[PATH_MAX];
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    *b = (struct base){ .lock = PTHREAD_MUTEX_INITIALIZER };
    (void)snprintf(text, sizeof text, "%s/db", dir);
    ok(b, sqlite3_open_v2(synchronous ? text : ":memory:", &b->db, flags, NULL), "sqlite3_open");
    run_sql(b, "PRAGMA locking_mode=EXCLUSIVE");
    if (synchronous) {
        (void)snprintf(text, sizeof text, "PRAGMA journal_mode=WAL; PRAGMA synchronous=%s",
                       synchronous);
        run_sql(b, text);
    }
    b->begin = prepared(b, "BEGIN IMMEDIATE");
    b->commit = prepared(b, "COMMIT");
}

static void log_open(struct base *b, const char *dir, const char *synchronous) {
    base_open(b, dir, synchronous);
    run_sql(b, "CREATE TABLE t (id INTEGER PRIMARY KEY, value BLOB NOT NULL)");
    b->insert = prepared(b, "INSERT INTO t (value) VALUES (?)");
}

// The oldest is found by the key: one at a time there is no other, and an index of those that are
// due would be one thing more to write.
static void queue_open(struct base *b, const char *dir, const char *synchronous) {
    base_open(b, dir, synchronous);
    run_sql(b, "CREATE TABLE t (id INTEGER PRIMARY KEY, due INTEGER NOT NULL, "
               "deliveries INTEGER NOT NULL, value BLOB NOT NULL)");
    b->insert = prepared(b, "INSERT INTO t (due, deliveries, value) VALUES (0, 0, ?)");
    b->lease = prepared(b, "UPDATE t SET due = ?2, deliveries = deliveries + 1 WHERE id = (SELECT "
                           "id FROM t WHERE due <= ?1 ORDER BY id LIMIT 1) "
                           "RETURNING id, deliveries, value");
    b->done = prepared(b, "DELETE FROM t WHERE id = ? AND deliveries = ?");
}

// What is in the table, closing it.
static struct tally base_read(struct base *b) {
    struct tally seen = { 0 };
    sqlite3_stmt *s = prepared(b, "SELECT value FROM t ORDER BY id");
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        const void *value = sqlite3_column_blob(s, 0);
        tally_add(&seen, value, (size_t)sqlite3_column_bytes(s, 0));
    }
    ok(b, rc, "SELECT");
    sqlite3_stmt *all[] = { s, b->insert, b->lease, b->done, b->begin, b->commit };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        (void)sqlite3_finalize(all[i]);
    ok(b, sqlite3_close(b->db), "sqlite3_close");
    return seen;
}

static void base_check(struct base *b, uint64_t n) {
    struct tally seen = base_read(b);
    tally_check(&seen, VALUE, n, 1);
}

static void append(struct run *r, size_t n, const char *synchronous) {
    struct base b;
    unsigned char value[VALUE];
    payload_init(value, sizeof value);
    log_open(&b, r->dir, synchronous);
    double begin = now_s();
    for (size_t i = 0; i < n; i++) {
        payload_number(value, sizeof value, i);
        insert(&b, value, sizeof value);
    }
    r->figure[0] = (double)n / (now_s() - begin);
    base_check(&b, n);
}

// A tenth of the work, which takes as long as leat's all.
void sqlite_memory_append(struct run *r) {
    append(r, r->work / 10, NULL);
}

// A fortieth of the work.
void sqlite_wal_append(struct run *r) {
    append(r, r->work / 40, "NORMAL");
}

static void store(void *ctx, uint64_t first, size_t n) {
    struct base *b = ctx;
    unsigned char value[DURABLE_BATCH][VALUE];
    durable_values(value, first, n);
    (void)pthread_mutex_lock(&b->lock);
    if (n > 1)
        step(b, b->begin);
    for (size_t i = 0; i < n; i++)
        insert(b, value[i], VALUE);
    if (n > 1)
        step(b, b->commit);
    (void)pthread_mutex_unlock(&b->lock);
}

static void durable(struct run *r, int threads, size_t batch) {
    struct base b;
    log_open(&b, r->dir, "FULL");
    struct durable d = { store, &b, threads, batch };
    base_check(&b, durable_run(r, &d));
}

void sqlite_full_durable_1(struct run *r) {
    durable(r, 1, 1);
}

// A transaction syncs alone, so that 16 threads have to be no faster than one: a quarter of the
// work.
void sqlite_full_durable_16(struct run *r) {
    r->work /= 4;
    durable(r, DURABLE_THREADS, 1);
}

void sqlite_full_durable_100(struct run *r) {
    durable(r, 1, DURABLE_BATCH);
}

// Receives the oldest for an hour, and binds b->done to it.
static void lease(struct base *b, struct tally *seen) {
    int64_t now_ms = (int64_t)(now_ns() / 1000000);
    ok(b, sqlite3_bind_int64(b->lease, 1, now_ms), "bind");
    ok(b, sqlite3_bind_int64(b->lease, 2, now_ms + 3600 * 1000), "bind");
    if (sqlite3_step(b->lease) != SQLITE_ROW)
        fail("no message: %s", sqlite3_errmsg(b->db));
    ok(b, sqlite3_bind_int64(b->done, 1, sqlite3_column_int64(b->lease, 0)), "bind");
    ok(b, sqlite3_bind_int64(b->done, 2, sqlite3_column_int64(b->lease, 1)), "bind");
    const void *got = sqlite3_column_blob(b->lease, 2);
    tally_add(seen, got, (size_t)sqlite3_column_bytes(b->lease, 2));
    step(b, b->lease);
}

static void queue(struct run *r, size_t n, const char *synchronous) {
    struct base b;
    struct tally seen = { 0 };
    unsigned char value[VALUE];
    payload_init(value, sizeof value);
    queue_open(&b, r->dir, synchronous);
    double begin = now_s();
    for (size_t i = 0; i < n; i++) {
        payload_number(value, sizeof value, i);
        insert(&b, value, sizeof value);
        lease(&b, &seen);
        step(&b, b.done);
    }
    r->figure[0] = (double)n / (now_s() - begin);
    tally_check(&seen, VALUE, n, 1);
    if (base_read(&b).count != 0)
        fail("messages are left");
}

// A twentieth of the work.
void sqlite_memory_queue(struct run *r) {
    queue(r, r->work / 20, NULL);
}

// A hundredth.
void sqlite_wal_queue(struct run *r) {
    queue(r, r->work / 100, "NORMAL");
}

// The table of a queue; the same values as leat, a tenth of them.
void sqlite_bytes(struct run *r) {
    struct base b;
    struct tally sent = { 0 };
    struct stat st;
    char path[PATH_MAX];
    unsigned char value[VALUE_MAX];
    double bytes = 0;
    size_t n = r->work / 10;
    queue_open(&b, r->dir, "NORMAL");
    step(&b, b.begin);
    for (size_t i = 0; i < n; i++) {
        size_t size = payload_of_any_size(value, i);
        tally_sent(&sent, value, size);
        insert(&b, value, size);
        bytes += (double)size;
    }
    step(&b, b.commit);
    run_sql(&b, "PRAGMA wal_checkpoint(TRUNCATE)");
    struct tally seen = base_read(&b);
    tally_compare(&seen, &sent, 1);
    (void)snprintf(path, sizeof path, "%s/db", r->dir);
    need(stat(path, &st) == 0, path);
    r->figure[0] = ((double)st.st_size - bytes) / (double)n;
}
