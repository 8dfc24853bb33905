/* SPDX-License-Identifier: MIT */
#include "lib/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void scratch_die(const char *what, const char *path) {
    fprintf(stderr, "scratch: %s %s: %s\n", what, path, strerror(errno));
    abort();
}

void scratch_make(char path[SCRATCH_PATH]) {
    const char *tmp = getenv("TMPDIR");
    snprintf(path, SCRATCH_PATH, "%s/leat-test.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(path))
        scratch_die("mkdtemp", path);
}

void scratch_join(char out[SCRATCH_PATH], const char *dir, const char *format, ...) {
    va_list ap;
    int n = snprintf(out, SCRATCH_PATH, "%s/", dir);
    va_start(ap, format);
    vsnprintf(out + n, SCRATCH_PATH - (size_t)n, format, ap);
    va_end(ap);
}

void scratch_mkdir(const char *path) {
    if (mkdir(path, 0700) != 0)
        scratch_die("mkdir", path);
}

bool scratch_exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

// Returns the names in a directory, sorted; the caller frees each and the array. -1: no directory.
static int scratch_names(const char *dir, struct dirent ***names) {
    int n = scandir(dir, names, NULL, alphasort);
    if (n < 0 && errno != ENOTDIR && errno != ENOENT)
        scratch_die("scandir", dir);
    return n;
}

// Calls fn for each entry of dir but . and ..
static void scratch_each(const char *dir, void (*fn)(const char *path, void *ctx), void *ctx) {
    struct dirent **names;
    int n = scratch_names(dir, &names);
    for (int i = 0; i < n; i++) {
        char path[SCRATCH_PATH];
        const char *name = names[i]->d_name;
        scratch_join(path, dir, "%s", name);
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            fn(path, ctx);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
}

static bool scratch_is_dir(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

// Trees here are at most four deep, and made by tests: recursion is bounded.
static void scratch_remove_one(const char *path, void *ctx) {
    if (scratch_is_dir(path)) {
        scratch_each(path, scratch_remove_one, ctx);
        (void)rmdir(path);
    } else {
        (void)unlink(path);
    }
}

void scratch_remove(const char *path) {
    if (path[0])
        scratch_remove_one(path, NULL);
}

unsigned char *scratch_read(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        scratch_die("reading", path);
    long n = ftell(f);
    rewind(f);
    unsigned char *all = malloc((size_t)n + 1);
    if (!all || fread(all, 1, (size_t)n, f) != (size_t)n)
        scratch_die("reading", path);
    all[n] = '\0';
    fclose(f);
    *size = (size_t)n;
    return all;
}

void scratch_write(const char *path, const void *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f) != 0)
        scratch_die("writing", path);
}

void scratch_poke(const char *path, size_t at, const void *bytes, size_t size) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, bytes, size, (off_t)at) != (ssize_t)size || close(fd) != 0)
        scratch_die("writing", path);
}

void scratch_truncate(const char *path, size_t size) {
    if (truncate(path, (off_t)size) != 0)
        scratch_die("truncating", path);
}

static void scratch_copy_one(const char *path, void *ctx) {
    char to[SCRATCH_PATH];
    scratch_join(to, ctx, "%s", strrchr(path, '/') + 1);
    if (scratch_is_dir(path)) {
        scratch_copy(path, to);
        return;
    }
    size_t size;
    unsigned char *all = scratch_read(path, &size);
    scratch_write(to, all, size);
    free(all);
}

void scratch_copy(const char *from, const char *to) {
    char out[SCRATCH_PATH];
    snprintf(out, sizeof out, "%s", to);
    scratch_mkdir(to);
    scratch_each(from, scratch_copy_one, out);
}

struct scratch_list {
    FILE *out;
    size_t root;
};

static void scratch_list_one(const char *path, void *ctx) {
    struct scratch_list *list = ctx;
    if (scratch_is_dir(path)) {
        fprintf(list->out, "%s/\n", path + list->root);
        scratch_each(path, scratch_list_one, ctx);
        return;
    }
    size_t size;
    unsigned char *all = scratch_read(path, &size);
    uint64_t hash = UINT64_C(14695981039346656037); // FNV-1a
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ all[i]) * UINT64_C(1099511628211);
    fprintf(list->out, "%s %zu %016llx\n", path + list->root, size, (unsigned long long)hash);
    free(all);
}

char *scratch_listing(const char *dir) {
    char *text = NULL;
    size_t size = 0;
    struct scratch_list list = { open_memstream(&text, &size), strlen(dir) + 1 };
    if (!list.out)
        scratch_die("listing", dir);
    scratch_each(dir, scratch_list_one, &list);
    if (fclose(list.out) != 0)
        scratch_die("listing", dir);
    return text;
}
