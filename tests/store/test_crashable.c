/* SPDX-License-Identifier: MIT */
// memfs, the directory in memory, and crashable in front of it: what a power cut may leave of
// names, lengths and sectors, and what it may not.
#include "store/crashable.h"
#include "store/memfs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { SEEDS = 64, SECTOR = 512 };

static struct lt_mem mem;
static struct lt_os *fs, *os; // os: crashable over fs
static struct lt_crashable *c;
static int root;

static void setup(void) {
    fs = lt_memfs_new(&mem, lt_os_system(), 1 << 20);
    cr_assert_not_null(fs);
    c = lt_crashable_new(&mem, fs);
    cr_assert_not_null(c);
    os = lt_crashable_os(c);
    root = os->open(os, AT_FDCWD, "any", O_RDONLY | O_DIRECTORY, 0);
    cr_assert_gt(root, 2);
}

static void teardown(void) {
    (void)os->close(os, root);
    lt_crashable_free(c);
    lt_memfs_free(fs);
}

static void cut(uint64_t seed) {
    struct lt_chance chance;
    lt_chance_init(&chance, seed);
    cr_assert_eq(lt_crashable_cut(c, &chance), 0);
}

static void done(int rc) {
    cr_assert_eq(rc, 0, "%s", strerror(-rc));
}

// Makes or overwrites a file: n sectors of the letter. synced: its bytes, not its name.
static void put(const char *path, char letter, int n, bool synced) {
    char bytes[16 * SECTOR];
    memset(bytes, letter, sizeof bytes);
    int fd = os->open(os, root, path, O_RDWR | O_CREAT, 0600);
    cr_assert_gt(fd, 2, "%s", strerror(-fd));
    done(lt_pwrite_full(os, fd, bytes, (size_t)n * SECTOR, 0));
    if (synced)
        done(os->sync(os, fd, false));
    done(os->close(os, fd));
}

static void sync_dir(const char *path) {
    int fd = os->open(os, root, path, O_RDONLY | O_DIRECTORY, 0);
    cr_assert_gt(fd, 2, "%s", strerror(-fd));
    done(os->sync(os, fd, true));
    done(os->close(os, fd));
}

// What a file has: the first letter of each sector; "-" if it is not there.
static const char *look(const char *path) {
    static char text[32];
    char sector[SECTOR];
    int n = 0, fd = os->open(os, root, path, O_RDONLY, 0);
    if (fd < 0)
        return "-";
    while (os->pread(os, fd, sector, SECTOR, (int64_t)n * SECTOR) == SECTOR) {
        for (int i = 1; i < SECTOR; i++)
            cr_assert_eq(sector[i], sector[0], "half a sector");
        text[n++] = sector[0] ? sector[0] : '0';
    }
    text[n] = '\0';
    done(os->close(os, fd));
    return text;
}

// Counts how often each of the outcomes came, separated by spaces; another one fails. All of them
// must come.
static const char *expected;
static int seen[16];

static void came(const char *outcome) {
    char all[512], *rest = all;
    (void)snprintf(all, sizeof all, "%s", expected);
    for (int i = 0; rest; i++)
        if (strcmp(strsep(&rest, " "), outcome) == 0) {
            seen[i]++;
            return;
        }
    cr_assert_fail("'%s' is none of '%s'", outcome, expected);
}

static void expect(const char *outcomes) {
    expected = outcomes;
    memset(seen, 0, sizeof seen);
}

static void all_came(void) {
    int n = 1;
    for (const char *at = expected; *at; at++)
        n += *at == ' ';
    for (int i = 0; i < n; i++)
        cr_assert_gt(seen[i], 0, "outcome %d of '%s' never came", i, expected);
}

// ---- memfs

struct names {
    char text[256];
    const char *unlink;
};

static int take_name(const char *name, void *ctx) {
    struct names *n = ctx;
    (void)strcat(strcat(n->text, name), " ");
    if (n->unlink)
        done(fs->unlink(fs, root, n->unlink, false));
    n->unlink = NULL;
    return 0;
}

Test(memfs, names_are_as_in_a_directory, .init = setup, .fini = teardown) {
    os = fs;
    int fd = fs->open(fs, root, "a", O_RDWR, 0);
    cr_assert_eq(fd, -ENOENT);
    put("a", 'a', 1, false);
    cr_assert_eq(fs->open(fs, root, "a", O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
    cr_assert_eq(fs->open(fs, root, "a", O_RDONLY | O_DIRECTORY, 0), -ENOTDIR);
    cr_assert_eq(fs->open(fs, root, "1/x", O_RDWR | O_CREAT, 0600), -ENOENT);
    cr_assert_eq(fs->open(fs, root, "a/x", O_RDWR | O_CREAT, 0600), -ENOTDIR);
    done(fs->mkdir(fs, root, "1", 0700));
    done(fs->mkdir(fs, root, "1/0", 0700));
    cr_assert_eq(fs->mkdir(fs, root, "1", 0700), -EEXIST);
    cr_assert_eq(fs->mkdir(fs, root, "2/0", 0700), -ENOENT);
    cr_assert_eq(fs->open(fs, root, "1", O_RDWR, 0), -EISDIR);
    put("1/0/x", 'x', 2, false);
    put("1/0/y", 'y', 1, false);
    cr_assert_eq(fs->unlink(fs, root, "1/0", true), -ENOTEMPTY);
    cr_assert_eq(fs->unlink(fs, root, "1/0", false), -EISDIR);
    cr_assert_eq(fs->unlink(fs, root, "1/0/x", true), -ENOTDIR);
    cr_assert_eq(fs->unlink(fs, root, "nothing", false), -ENOENT);
    struct names n = { .unlink = "1/0/x" };
    int dir = fs->open(fs, root, "1/0", O_RDONLY | O_DIRECTORY, 0);
    done(fs->list(fs, dir, take_name, &n)); // which may remove what it is told of
    done(fs->close(fs, dir));
    cr_assert_str_eq(n.text, "x y ");
    n = (struct names){ .text = "" };
    done(fs->list(fs, root, take_name, &n));
    cr_assert_str_eq(n.text, "a 1 ");
    done(fs->rename(fs, root, "a", "1/0/y"));
    cr_assert_str_eq(look("1/0/y"), "a");
    cr_assert_str_eq(look("a"), "-");
    cr_assert_eq(fs->rename(fs, root, "a", "b"), -ENOENT);
    cr_assert_eq(fs->rename(fs, root, "1/0/y", "3/y"), -ENOENT);
    done(fs->rename(fs, root, "1/0/y", "1/0/y"));
    done(fs->unlink(fs, root, "1/0/y", false));
    done(fs->unlink(fs, root, "1/0", true));
    os = lt_crashable_os(c);
}

Test(memfs, who_maps_a_file_sees_what_others_store_also_when_its_name_is_gone, .init = setup,
     .fini = teardown) {
    void *one, *two;
    char byte;
    int fd = fs->open(fs, root, "a", O_RDWR | O_CREAT, 0600);
    int again = fs->open(fs, root, "a", O_RDWR, 0);
    done(fs->allocate(fs, fd, 0, 4096));
    done(fs->map(fs, fd, 4096, true, &one));
    done(fs->map(fs, again, 4096, false, &two));
    ((char *)one)[7] = 'x';
    cr_assert_eq(((char *)two)[7], 'x');
    cr_assert_eq(fs->pread(fs, again, &byte, 1, 7), 1);
    cr_assert_eq(byte, 'x');
    done(fs->unlink(fs, root, "a", false));
    done(fs->close(fs, fd));
    cr_assert_eq(fs->pwrite(fs, again, "y", 1, 7), 1);
    cr_assert_eq(((char *)one)[7], 'y');
    cr_assert_eq(fs->open(fs, root, "a", O_RDWR, 0), -ENOENT);
    done(fs->close(fs, again));
    done(fs->unmap(fs, one, 4096));
    done(fs->unmap(fs, two, 4096));
}

Test(memfs, the_bound_is_of_all_files_and_what_is_removed_counts_no_more, .init = setup,
     .fini = teardown) {
    int a = fs->open(fs, root, "a", O_RDWR | O_CREAT, 0600);
    int b = fs->open(fs, root, "b", O_RDWR | O_CREAT, 0600);
    done(fs->allocate(fs, a, 0, 1 << 19));
    done(fs->truncate(fs, b, 1 << 19));
    cr_assert_eq(fs->allocate(fs, a, 1 << 19, 1), -ENOSPC);
    cr_assert_eq(fs->truncate(fs, a, INT64_MAX), -ENOSPC);
    cr_assert_eq(fs->pwrite(fs, b, "x", 1, 1 << 19), -ENOSPC);
    cr_assert_eq(fs->pwrite(fs, b, "x", 1, 5), 1);
    done(fs->truncate(fs, b, 10));
    done(fs->allocate(fs, a, 1 << 19, 1 << 18));
    done(fs->unlink(fs, root, "a", false));
    done(fs->allocate(fs, b, 0, 1 << 20));
    done(fs->close(fs, a));
    done(fs->close(fs, b));
}

// ---- crashable

Test(crashable, each_sector_is_as_synced_or_as_it_is_now) {
    expect("aaaa bbbb aabb bbaa abab baba abba baab aaab baaa abaa aaba abbb babb bbab bbba");
    for (uint64_t seed = 0; seed < 8 * SEEDS; seed++) {
        setup();
        put("f", 'a', 4, true);
        sync_dir(".");
        put("f", 'b', 4, false);
        cut(seed);
        came(look("f"));
        teardown();
    }
    all_came();
}

Test(crashable, a_length_is_as_synced_or_as_it_is_now) {
    expect("a ab a0 b b0 bb");
    for (uint64_t seed = 0; seed < 4 * SEEDS; seed++) {
        setup();
        put("f", 'a', 1, true);
        sync_dir(".");
        put("f", 'b', 2, false);
        cut(seed);
        came(look("f"));
        teardown();
    }
    all_came();
    expect("a aa"); // a shorter one: what is behind its end is as synced, or gone
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        setup();
        put("f", 'a', 2, true);
        sync_dir(".");
        int fd = os->open(os, root, "f", O_RDWR, 0);
        done(os->truncate(os, fd, SECTOR));
        done(os->close(os, fd));
        cut(seed);
        if (strcmp(look("f"), "a0") != 0) // the length as synced, the bytes as now
            came(look("f"));
        teardown();
    }
    all_came();
}

Test(crashable, a_name_is_durable_by_its_directorys_sync_not_by_the_files) {
    expect("- a");
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        setup();
        put("f", 'a', 1, true);
        put("g", 'g', 1, true);
        sync_dir(".");
        done(os->mkdir(os, root, "1", 0700));
        put("1/f", 'a', 1, true);
        sync_dir("1"); // whose own name is not durable
        cut(seed);
        came(look("1/f"));
        cr_assert_str_eq(look("g"), "g");
        teardown();
    }
    all_came();
}

Test(crashable, what_was_removed_may_be_back_until_the_directory_is_synced) {
    expect("- a");
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        setup();
        done(os->mkdir(os, root, "1", 0700));
        put("1/f", 'a', 1, true);
        put("1/g", 'g', 1, true);
        sync_dir("1");
        sync_dir(".");
        done(os->unlink(os, root, "1/g", false));
        sync_dir("1");
        done(os->unlink(os, root, "1/f", false));
        if (seed & 1)
            done(os->unlink(os, root, "1", true));
        cut(seed);
        came(look("1/f"));
        cr_assert_str_eq(look("1/g"), "-");
        teardown();
    }
    all_came();
}

Test(crashable, a_rename_over_another_file_is_one_step) {
    expect("old new");
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        setup();
        put("f", 'o', 1, true);
        if (seed & 1) { // the new one's first name is durable, or not
            put("f.new", 'n', 1, true);
            sync_dir(".");
        } else {
            sync_dir(".");
            put("f.new", 'n', 1, true);
        }
        done(os->rename(os, root, "f.new", "f"));
        cut(seed);
        char f = *look("f"), from = *look("f.new");
        came(f == 'n' ? "new" : f == 'o' ? "old" : "neither");
        cr_assert(!(f == 'n' && from == 'n'), "seed %d: under both names", (int)seed);
        cr_assert(!((seed & 1) && f == 'o' && from != 'n'), "seed %d: the new one is gone",
                  (int)seed);
        teardown();
    }
    all_came();
}

Test(crashable, what_a_cut_left_is_durable_and_what_was_there_before_too) {
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        setup();
        os = fs; // behind crashable's back: it was there when the store was opened
        put("g", 'g', 2, false);
        os = lt_crashable_os(c);
        put("f", 'a', 2, true);
        sync_dir(".");
        put("f", 'b', 4, false);
        put("g", 'h', 1, false);
        put("h", 'h', 1, false);
        cut(seed);
        char was[3][32];
        static const char *const names[] = { "f", "g", "h" };
        for (int i = 0; i < 3; i++)
            (void)snprintf(was[i], sizeof was[i], "%s", look(names[i]));
        cr_assert(strcmp(was[1], "gg") == 0 || strcmp(was[1], "hg") == 0, "%s", was[1]);
        cut(seed + 1);
        cut(seed + 2);
        for (int i = 0; i < 3; i++)
            cr_assert_str_eq(look(names[i]), was[i]);
        teardown();
    }
}

Test(crashable, old_descriptors_and_maps_keep_what_they_have) {
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        setup();
        void *map;
        put("f", 'a', 8, true);
        sync_dir(".");
        put("f", 'b', 8, false);
        int fd = os->open(os, root, "f", O_RDWR, 0);
        done(os->map(os, fd, 8 * SECTOR, true, &map));
        cut(seed);
        char left[32];
        (void)snprintf(left, sizeof left, "%s", look("f"));
        for (int i = 0; i < 8 * SECTOR; i++)
            cr_assert_eq(((char *)map)[i], 'b');
        if (strcmp(left, "bbbbbbbb") != 0) { // else nothing changed, and it is the same file
            memset(map, 'x', 8 * SECTOR);
            cr_assert_str_eq(look("f"), left);
        }
        done(os->unmap(os, map, 8 * SECTOR));
        done(os->close(os, fd));
        teardown();
    }
}
