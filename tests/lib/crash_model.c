/* SPDX-License-Identifier: MIT */
// crash_model: follows a trace, and knows what may be on the disk.
#include "lib/crash_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- what was picked

// The names that a directory has by what was picked.
int crash_names(const struct crash_node *n, struct crash_entry out[CRASH_ENTRIES]) {
    int entries = n->entries;
    memcpy(out, n->entry, (size_t)entries * sizeof *out);
    for (int i = 0; i < n->pendings; i++) {
        const struct crash_event *e = n->pending[i];
        if (n->dropped[i])
            continue;
        if (e->kind == CRASH_RENAME)
            crash_leave(out, &entries, e->from);
        if (e->kind == CRASH_UNLINK)
            crash_leave(out, &entries, e->name);
        else
            crash_enter(out, &entries, e->name, e->target);
    }
    return entries;
}

const struct crash_event *crash_picked(const struct crash_sector *s) {
    const struct crash_event *e = s->newest;
    for (uint32_t i = 0; i < s->pick; i++)
        e = e->older;
    return e;
}

int64_t crash_picked_size(const struct crash_node *n) {
    return n->sizes[n->size_count - 1 - n->size_pick];
}

// ---- the model

void crash_model_init(struct crash_model *m) {
    memset(m, 0, sizeof *m);
    m->nodes = 1;
    m->node[0].is_dir = true;
    m->node[0].size_count = 1;
}

void crash_model_copy(struct crash_model *to, const struct crash_model *from) {
    to->nodes = from->nodes;
    to->cuts = 0;
    memcpy(to->node, from->node, (size_t)from->nodes * sizeof *from->node);
}

static void crash_model_make(struct crash_model *m, const struct crash_event *e) {
    if (e->file != m->nodes)
        crash_abort("file %d comes after %d", e->file, m->nodes);
    struct crash_node *n = &m->node[m->nodes++];
    memset(n, 0, sizeof *n);
    n->is_dir = e->is_dir;
    n->size_count = 1;
}

static void crash_model_sync(struct crash_node *n) {
    for (int i = 0; i < n->pendings; i++)
        n->dropped[i] = false;
    struct crash_entry entry[CRASH_ENTRIES];
    n->entries = crash_names(n, entry);
    memcpy(n->entry, entry, (size_t)n->entries * sizeof *entry);
    n->pendings = 0;
    for (uint32_t i = 0; i < n->sectors; i++)
        n->sector[i].count = 1;
    n->sizes[0] = n->sizes[n->size_count - 1];
    n->size_count = 1;
}

static void crash_model_bytes(struct crash_node *n, struct crash_event *e) {
    while (n->sectors <= e->sector)
        n->sector[n->sectors++] = (struct crash_sector){ .count = 1 };
    struct crash_sector *s = &n->sector[e->sector];
    e->older = s->newest;
    s->newest = e;
    s->count++;
}

static void crash_model_size(struct crash_node *n, int64_t size) {
    if (n->size_count == CRASH_SIZES) // the second one is forgotten: the first was synced
        memmove(n->sizes + 1, n->sizes + 2, (size_t)(--n->size_count - 1) * sizeof *n->sizes);
    n->sizes[n->size_count++] = size;
}

void crash_model_follow(struct crash_model *m, struct crash_event *e) {
    struct crash_node *n = e->kind == CRASH_POINT ? NULL : &m->node[e->file];
    switch (e->kind) {
    case CRASH_POINT:
        return;
    case CRASH_BYTES:
        crash_model_bytes(n, e);
        return;
    case CRASH_SIZE:
        crash_model_size(n, e->size);
        return;
    case CRASH_SYNC:
        crash_model_sync(n);
        return;
    case CRASH_MAKE:
        crash_model_make(m, e);
        return;
    case CRASH_LINK:
    case CRASH_RENAME:
        memcpy(m->node[e->target].name, e->name, CRASH_NAME);
        break;
    case CRASH_UNLINK:
        break;
    }
    if (n->pendings == CRASH_PENDING)
        crash_abort("more than %d names are not synced", CRASH_PENDING);
    n->dropped[n->pendings] = false;
    n->pending[n->pendings++] = e;
}

// Marks what some choice of names can reach.
static void crash_model_reach(const struct crash_model *m, bool reached[CRASH_FILES]) {
    int todo[CRASH_FILES], count = 0;
    memset(reached, 0, CRASH_FILES * sizeof *reached);
    reached[0] = true;
    todo[count++] = 0;
    while (count > 0) {
        const struct crash_node *n = &m->node[todo[--count]];
        for (int i = 0; i < n->entries + n->pendings; i++) {
            const struct crash_event *e = i < n->entries ? NULL : n->pending[i - n->entries];
            if (e && e->kind == CRASH_UNLINK)
                continue;
            int file = e ? e->target : n->entry[i].file;
            if (reached[file])
                continue;
            reached[file] = true;
            if (m->node[file].is_dir)
                todo[count++] = file;
        }
    }
}

static void crash_model_var(struct crash_var vars[CRASH_VARS], size_t *count, enum crash_what what,
                            int file, uint32_t index, uint32_t choices) {
    if (choices < 2)
        return;
    if (*count == CRASH_VARS)
        crash_abort("more than %d things are uncertain", CRASH_VARS);
    vars[(*count)++] =
        (struct crash_var){ .what = what, .file = file, .index = index, .choices = choices };
}

size_t crash_model_vars(struct crash_model *m, struct crash_var vars[CRASH_VARS]) {
    bool reached[CRASH_FILES];
    size_t count = 0;
    crash_model_reach(m, reached);
    for (int file = 0; file < m->nodes; file++) {
        struct crash_node *n = &m->node[file];
        n->size_pick = 0;
        for (uint32_t i = 0; i < n->sectors; i++)
            n->sector[i].pick = 0;
        for (int i = 0; i < n->pendings; i++)
            n->dropped[i] = false;
        if (!reached[file])
            continue;
        for (int i = 0; i < n->pendings; i++)
            crash_model_var(vars, &count, CRASH_VAR_NAME, file, (uint32_t)i, 2);
        crash_model_var(vars, &count, CRASH_VAR_SIZE, file, 0, (uint32_t)n->size_count);
        for (uint32_t i = 0; i < n->sectors; i++)
            crash_model_var(vars, &count, CRASH_VAR_SECTOR, file, i, n->sector[i].count);
    }
    return count;
}

void crash_model_pick(struct crash_model *m, const struct crash_var *var, uint32_t pick) {
    struct crash_node *n = &m->node[var->file];
    switch (var->what) {
    case CRASH_VAR_SECTOR:
        n->sector[var->index].pick = pick;
        break;
    case CRASH_VAR_SIZE:
        n->size_pick = (int)pick;
        break;
    case CRASH_VAR_NAME:
        n->dropped[var->index] = pick != 0;
        break;
    }
}

bool crash_model_torn(const struct crash_model *m, const struct crash_var *var, uint32_t pick) {
    if (var->what != CRASH_VAR_SECTOR)
        return false;
    const struct crash_event *e = m->node[var->file].sector[var->index].newest;
    for (; pick > 0; pick--)
        e = e->older;
    return e && e->torn;
}

static int crash_model_names(const void *of, int file, struct crash_entry out[CRASH_ENTRIES]) {
    const struct crash_node *n = &((const struct crash_model *)of)->node[file];
    return n->is_dir ? crash_names(n, out) : -1;
}

static uint64_t crash_model_sector(const void *of, int file, uint32_t sector, int64_t size) {
    const struct crash_node *n = &((const struct crash_model *)of)->node[file];
    int64_t left = size - (int64_t)sector * CRASH_SECTOR;
    const struct crash_event *e = sector < n->sectors ? crash_picked(&n->sector[sector]) : NULL;
    if (!e)
        return 0;
    return left >= CRASH_SECTOR ? e->hash : crash_hash_end(e->bytes, (size_t)left);
}

static int64_t crash_model_length(const void *of, int file) {
    return crash_picked_size(&((const struct crash_model *)of)->node[file]);
}

uint64_t crash_model_hash(const struct crash_model *m) {
    const struct crash_tree t = { .of = m,
                                  .names = crash_model_names,
                                  .sector = crash_model_sector,
                                  .size = crash_model_length };
    return crash_tree_hash(&t);
}

// What stood behind the end is not there when the file grows again.
static struct crash_event *crash_model_cut(struct crash_model *m, const struct crash_event *e,
                                           size_t n) {
    struct crash_event *cut = crash_alloc(sizeof *cut);
    *cut = *e;
    cut->bytes = crash_alloc(CRASH_SECTOR);
    memcpy(cut->bytes, e->bytes, n);
    cut->hash = crash_hash_sector(cut->bytes);
    m->cut[m->cuts++] = cut; // one a file at the most
    return cut;
}

void crash_model_free(struct crash_model *m) {
    while (m->cuts > 0) {
        free(m->cut[--m->cuts]->bytes);
        free(m->cut[m->cuts]);
    }
}

void crash_model_settle(struct crash_model *m) {
    for (int file = 0; file < m->nodes; file++) {
        struct crash_node *n = &m->node[file];
        struct crash_entry entry[CRASH_ENTRIES];
        n->entries = crash_names(n, entry);
        memcpy(n->entry, entry, (size_t)n->entries * sizeof *entry);
        n->pendings = 0;
        n->sizes[0] = crash_picked_size(n);
        n->size_count = 1;
        n->size_pick = 0;
        for (uint32_t i = 0; i < n->sectors; i++) {
            struct crash_sector *s = &n->sector[i];
            int64_t room = n->sizes[0] - (int64_t)i * CRASH_SECTOR;
            s->newest = room > 0 ? (struct crash_event *)(uintptr_t)crash_picked(s) : NULL;
            if (s->newest && room < CRASH_SECTOR)
                s->newest = crash_model_cut(m, s->newest, (size_t)room);
            s->count = 1;
            s->pick = 0;
        }
    }
}

void crash_model_say(const struct crash_model *m, const struct crash_var *var, uint32_t pick,
                     char out[160]) {
    const struct crash_node *n = &m->node[var->file];
    const char *name = n->name[0] ? n->name : "/";
    if (var->what == CRASH_VAR_NAME) {
        const struct crash_event *e = n->pending[var->index];
        const char *verb = e->kind == CRASH_LINK     ? "made"
                           : e->kind == CRASH_UNLINK ? "removed"
                                                     : "renamed";
        (void)snprintf(out, 160, "[%s: %s %s%s]", name, e->name, verb, pick ? " dropped" : " kept");
    } else if (var->what == CRASH_VAR_SIZE) {
        (void)snprintf(out, 160, "[%s: size %lld of newest %lld]", name,
                       (long long)n->sizes[n->size_count - 1 - (int)pick],
                       (long long)n->sizes[n->size_count - 1]);
    } else {
        (void)snprintf(out, 160, "[%s: sector %u version %u of %u]", name, var->index,
                       var->choices - pick, var->choices);
    }
}
