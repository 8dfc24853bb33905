/* SPDX-License-Identifier: MIT */
// window: blocks, ring and tree, see window.h for the picture and the invariants. The order in this
// file: the tree, the ring of blocks, one offset, ranges of offsets, the check.
#include "queue/window.h"

#include "base/bytes.h"

enum {
    WINDOW_SHIFT = 12,   // LT_WINDOW_BLOCK == 1 << WINDOW_SHIFT
    WINDOW_WORDS = 64,   // of 64 bits in a block
    WINDOW_CAP_MIN = 8,  // places: 32,768 offsets. Arbitrary: an idle queue pays 64 bytes
    WINDOW_CAP_BITS = 30 // 64 to the power of LT_WINDOW_LEVELS
};

struct lt_window_block {
    uint64_t available[WINDOW_WORDS];
    uint64_t final[WINDOW_WORDS];
    uint64_t summary; // bit j: available[j] is not 0
    uint32_t n_available, n_final;
};

// The mark of a block that is final from end to end: only its address is ever used.
static struct lt_window_block window_whole;

static uint64_t window_bit(uint64_t i) {
    return UINT64_C(1) << (i & 63);
}

// window_number is the number of the block that off, which is never negative, stands in.
static uint64_t window_number(int64_t off) {
    return (uint64_t)off >> WINDOW_SHIFT;
}

// window_begin is the first offset of a block.
static int64_t window_begin(uint64_t number) {
    return (int64_t)(number << WINDOW_SHIFT);
}

static size_t window_place(const struct lt_window *w, uint64_t number) {
    return (size_t)number & (w->cap - 1);
}

static struct lt_window_block *window_block(const struct lt_window *w, int64_t off) {
    return w->ring[window_place(w, window_number(off))];
}

// ---- the tree ----------------------------------------------------------------------------------

// window_tree_shape sets where the levels begin. Returns how many words they need in all.
static size_t window_tree_shape(size_t cap, size_t level[LT_WINDOW_LEVELS], unsigned *levels) {
    size_t words = 0;
    unsigned n = 0;
    for (size_t bits = cap;; bits = (bits + 63) / 64) {
        level[n++] = words;
        words += (bits + 63) / 64;
        if (bits <= 64)
            break;
    }
    *levels = n;
    return words;
}

static void window_tree_set(struct lt_window *w, size_t place) {
    for (unsigned l = 0; l < w->levels; l++, place >>= 6) {
        uint64_t *word = &w->tree[w->level[l] + (place >> 6)];
        uint64_t before = *word;
        *word |= window_bit(place);
        if (before)
            return; // the levels above know already
    }
}

static void window_tree_clear(struct lt_window *w, size_t place) {
    for (unsigned l = 0; l < w->levels; l++, place >>= 6) {
        uint64_t *word = &w->tree[w->level[l] + (place >> 6)];
        *word &= ~window_bit(place);
        if (*word)
            return;
    }
}

// window_tree_next finds the lowest place from `place` on whose bit is set: up the levels until a
// word has something to the right, then down again. Returns false if there is none.
static bool window_tree_next(const struct lt_window *w, size_t place, size_t *found) {
    size_t bits = w->cap;
    for (unsigned l = 0; l < w->levels && place < bits; l++, bits = (bits + 63) / 64) {
        uint64_t word = w->tree[w->level[l] + (place >> 6)] & (UINT64_MAX << (place & 63));
        if (!word) {
            place = (place >> 6) + 1;
            continue;
        }
        place = (place & ~(size_t)63) | (size_t)__builtin_ctzll(word);
        while (l-- > 0)
            place = place << 6 | (size_t)__builtin_ctzll(w->tree[w->level[l] + place]);
        *found = place;
        return true;
    }
    return false;
}

// window_lowest finds the lowest available offset; there must be one. The ring begins at the head's
// place, so the search goes from there to the end, then on from the start.
static int64_t window_lowest(const struct lt_window *w) {
    uint64_t first = window_number(w->head);
    size_t start = window_place(w, first);
    size_t place = start;
    if (!window_tree_next(w, start, &place))
        (void)window_tree_next(w, 0, &place); // by invariant 7 there is one
    const struct lt_window_block *block = w->ring[place];
    int j = __builtin_ctzll(block->summary);
    int bit = __builtin_ctzll(block->available[j]);
    return window_begin(first + ((place - start) & (w->cap - 1))) + j * 64 + bit;
}

// ---- the ring of blocks ------------------------------------------------------------------------

// window_release frees the block at a place and leaves `instead` there: NULL or the mark.
static void window_release(struct lt_window *w, size_t place, struct lt_window_block *instead) {
    struct lt_window_block *block = w->ring[place];
    w->ring[place] = instead;
    if (!block || block == &window_whole)
        return;
    if (block->n_available)
        window_tree_clear(w, place);
    lt_free(w->mem, block);
}

// window_grow makes places for the blocks from head's own up to room, which is not yet w->room.
static int window_grow(struct lt_window *w, int64_t room) {
    uint64_t first = window_number(w->head);
    uint64_t need = window_number(room) - first;
    if (need <= w->cap)
        return 0;
    if (need > UINT64_C(1) << WINDOW_CAP_BITS)
        return LEAT_ENOMEM;
    struct lt_window bigger = *w;
    bigger.cap = w->cap ? w->cap : WINDOW_CAP_MIN;
    while (bigger.cap < need)
        bigger.cap *= 2;
    size_t words = window_tree_shape(bigger.cap, bigger.level, &bigger.levels);
    bigger.ring = lt_zalloc(w->mem, bigger.cap * sizeof(struct lt_window_block *));
    bigger.tree = lt_zalloc(w->mem, words * sizeof(uint64_t));
    if (!bigger.ring || !bigger.tree) {
        lt_free(w->mem, bigger.ring);
        lt_free(w->mem, bigger.tree);
        return LEAT_ENOMEM;
    }
    for (uint64_t number = first; number < window_number(w->room); number++) {
        struct lt_window_block *block = w->ring[window_place(w, number)];
        size_t place = window_place(&bigger, number);
        bigger.ring[place] = block;
        if (block->n_available) // the mark has none
            window_tree_set(&bigger, place);
    }
    lt_free(w->mem, w->ring);
    lt_free(w->mem, w->tree);
    *w = bigger;
    return 0;
}

// window_close_below makes the offsets of a fresh block below off final: the head's own block.
static void window_close_below(struct lt_window_block *block, int64_t off) {
    uint64_t n = (uint64_t)off & (LT_WINDOW_BLOCK - 1);
    for (uint64_t j = 0; j < n / 64; j++)
        block->final[j] = UINT64_MAX;
    if (n % 64)
        block->final[n / 64] = window_bit(n) - 1;
    block->n_final = (uint32_t)n;
}

// window_add puts a new block at w->room and moves room behind it. The place must exist.
static int window_add(struct lt_window *w) {
    struct lt_window_block *block = lt_zalloc(w->mem, sizeof(struct lt_window_block));
    if (!block)
        return LEAT_ENOMEM;
    if (w->room < w->head)
        window_close_below(block, w->head);
    w->ring[window_place(w, window_number(w->room))] = block;
    w->room += LT_WINDOW_BLOCK;
    return 0;
}

void lt_window_init(struct lt_window *w, struct lt_mem *mem, int64_t head) {
    head = lt_min(lt_max(head, 0), LT_WINDOW_OFFSET_MAX);
    *w = (struct lt_window){ .head = head, .tail = head, .mem = mem };
    w->room = window_begin(window_number(head));
}

void lt_window_fini(struct lt_window *w) {
    for (size_t place = 0; place < w->cap; place++)
        window_release(w, place, NULL);
    lt_free(w->mem, w->ring);
    lt_free(w->mem, w->tree);
    lt_window_init(w, w->mem, w->head);
}

int lt_window_reserve(struct lt_window *w, int64_t tail) {
    if (tail <= w->room || tail <= w->tail)
        return 0;
    if (tail > LT_WINDOW_OFFSET_MAX)
        return LEAT_EINVAL;
    int64_t before = w->room;
    int64_t room = window_begin(window_number(tail - 1) + 1);
    int rc = window_grow(w, room);
    while (rc == 0 && w->room < room)
        rc = window_add(w);
    if (rc < 0) {
        for (; w->room > before; w->room -= LT_WINDOW_BLOCK)
            window_release(w, window_place(w, window_number(w->room) - 1), NULL);
    }
    return rc;
}

// ---- one offset --------------------------------------------------------------------------------

// window_take_back clears the available bit of off, which is set.
static void window_take_back(struct lt_window *w, struct lt_window_block *block, int64_t off) {
    uint64_t i = (uint64_t)off & (LT_WINDOW_BLOCK - 1);
    block->available[i / 64] &= ~window_bit(i);
    if (!block->available[i / 64])
        block->summary &= ~window_bit(i / 64);
    if (--block->n_available == 0)
        window_tree_clear(w, window_place(w, window_number(off)));
    w->available--;
}

// window_first_open returns the first offset of a block, counted from its begin, from i on, that is
// not final. By invariant 6 there is one.
static int64_t window_first_open(const struct lt_window_block *block, int64_t i) {
    int64_t j = i / 64;
    while (j < WINDOW_WORDS - 1 && block->final[j] == UINT64_MAX)
        j++;
    return j * 64 + __builtin_ctzll(~block->final[j]);
}

// window_advance moves the head over everything final and frees the blocks that it leaves.
static void window_advance(struct lt_window *w) {
    while (w->head < w->tail) {
        uint64_t number = window_number(w->head);
        int64_t begin = window_begin(number);
        const struct lt_window_block *block = window_block(w, w->head);
        int64_t next = begin + LT_WINDOW_BLOCK;
        if (block != &window_whole)
            next = begin + window_first_open(block, w->head - begin);
        w->final -= (uint64_t)(next - w->head);
        w->head = next;
        if (block != &window_whole)
            return;
        window_release(w, window_place(w, number), NULL);
    }
}

int64_t lt_window_peek_next(const struct lt_window *w, int64_t end) {
    if (w->available)
        return window_lowest(w);
    if (w->tail >= end)
        return LT_WINDOW_NONE;
    return w->tail < w->room ? w->tail : LT_WINDOW_NO_ROOM;
}

int64_t lt_window_take(struct lt_window *w, int64_t end) {
    int64_t off = lt_window_peek_next(w, end);
    if (off < 0)
        return off;
    if (off < w->tail)
        window_take_back(w, window_block(w, off), off);
    else
        w->tail++;
    return off;
}

int lt_window_state(const struct lt_window *w, int64_t off) {
    if (off < w->head)
        return LT_WINDOW_FINAL;
    if (off >= w->tail)
        return LT_WINDOW_NEW;
    const struct lt_window_block *block = window_block(w, off);
    if (block == &window_whole)
        return LT_WINDOW_FINAL;
    uint64_t i = (uint64_t)off & (LT_WINDOW_BLOCK - 1);
    if (block->final[i / 64] & window_bit(i))
        return LT_WINDOW_FINAL;
    return block->available[i / 64] & window_bit(i) ? LT_WINDOW_AVAILABLE : LT_WINDOW_HELD;
}

bool lt_window_give_back(struct lt_window *w, int64_t off) {
    if (lt_window_state(w, off) != LT_WINDOW_HELD)
        return false;
    struct lt_window_block *block = window_block(w, off);
    uint64_t i = (uint64_t)off & (LT_WINDOW_BLOCK - 1);
    block->available[i / 64] |= window_bit(i);
    block->summary |= window_bit(i / 64);
    if (block->n_available++ == 0)
        window_tree_set(w, window_place(w, window_number(off)));
    w->available++;
    return true;
}

bool lt_window_hold(struct lt_window *w, int64_t off) {
    if (lt_window_state(w, off) != LT_WINDOW_AVAILABLE)
        return false;
    window_take_back(w, window_block(w, off), off);
    return true;
}

bool lt_window_finish(struct lt_window *w, int64_t off) {
    int state = lt_window_state(w, off);
    if (state != LT_WINDOW_HELD && state != LT_WINDOW_AVAILABLE)
        return false;
    struct lt_window_block *block = window_block(w, off);
    if (state == LT_WINDOW_AVAILABLE)
        window_take_back(w, block, off);
    uint64_t i = (uint64_t)off & (LT_WINDOW_BLOCK - 1);
    block->final[i / 64] |= window_bit(i);
    w->final++;
    if (++block->n_final == LT_WINDOW_BLOCK)
        window_release(w, window_place(w, window_number(off)), &window_whole);
    if (off == w->head)
        window_advance(w);
    return true;
}

// ---- ranges of offsets -------------------------------------------------------------------------

// window_close_word makes the offsets of mask, in one word of a block, final.
static void window_close_word(struct lt_window *w, struct lt_window_block *block, int64_t j,
                              uint64_t mask) {
    uint32_t taken = (uint32_t)__builtin_popcountll(block->available[j] & mask);
    uint32_t closed = (uint32_t)__builtin_popcountll(~block->final[j] & mask);
    block->available[j] &= ~mask;
    block->final[j] |= mask;
    if (!block->available[j])
        block->summary &= ~window_bit((uint64_t)j);
    block->n_available -= taken;
    block->n_final += closed;
    w->available -= taken;
    w->final += closed;
}

// window_close_part makes the offsets i .. end - 1 of one block final, counted from its begin.
static void window_close_part(struct lt_window *w, uint64_t number, int64_t i, int64_t end) {
    size_t place = window_place(w, number);
    struct lt_window_block *block = w->ring[place];
    if (block == &window_whole)
        return;
    bool had = block->n_available != 0;
    for (int64_t j = i / 64; j * 64 < end; j++) {
        uint64_t mask = UINT64_MAX;
        if (i > j * 64)
            mask &= UINT64_MAX << (i & 63);
        if (end < j * 64 + 64)
            mask &= window_bit((uint64_t)end) - 1;
        window_close_word(w, block, j, mask);
    }
    if (had && block->n_available == 0)
        window_tree_clear(w, place);
    if (block->n_final == LT_WINDOW_BLOCK)
        window_release(w, place, &window_whole);
}

// window_close makes the offsets of [from, to), which lie within [head, tail), final.
static void window_close(struct lt_window *w, int64_t from, int64_t to) {
    while (from < to) {
        uint64_t number = window_number(from);
        int64_t begin = window_begin(number);
        int64_t end = lt_min(begin + LT_WINDOW_BLOCK, to);
        window_close_part(w, number, from - begin, end - begin);
        from = end;
    }
    window_advance(w);
}

// window_jump empties the window and begins anew at off, which is not below the tail. The block
// that off stands in may be there already: then it stays.
static void window_jump(struct lt_window *w, int64_t off) {
    uint64_t first = window_number(w->head);
    uint64_t last = window_number(lt_min(off, w->room));
    for (uint64_t number = first; number < last; number++)
        window_release(w, window_place(w, number), NULL);
    w->head = off;
    w->tail = off;
    w->available = 0;
    w->final = 0;
    w->room = lt_max(w->room, window_begin(window_number(off)));
    if (off >= w->room)
        return;
    struct lt_window_block *block = window_block(w, off);
    if (block->n_available)
        window_tree_clear(w, window_place(w, window_number(off)));
    *block = (struct lt_window_block){ .summary = 0 };
    window_close_below(block, off);
}

// window_extend moves the tail of a window that is not empty up to `to`; the new offsets are held,
// or final where whole blocks are new. Only the last block is allocated: the others could not be
// anything but final once the gap is closed. Returns 0, or LEAT_ENOMEM with nothing changed.
static int window_extend(struct lt_window *w, int64_t to) {
    if (to > w->room) {
        int64_t last = window_begin(window_number(to));
        int rc = window_grow(w, to > last ? last + LT_WINDOW_BLOCK : last);
        if (rc < 0)
            return rc;
        int64_t before = w->room;
        w->room = last;
        if (to > last && window_add(w) < 0) {
            w->room = before;
            return LEAT_ENOMEM;
        }
        for (; before < last; before += LT_WINDOW_BLOCK) {
            w->ring[window_place(w, window_number(before))] = &window_whole;
            w->final += LT_WINDOW_BLOCK;
        }
    }
    w->tail = to;
    return 0;
}

int lt_window_gap(struct lt_window *w, int64_t from, int64_t to) {
    if (from > w->tail || to > LT_WINDOW_OFFSET_MAX)
        return LEAT_EINVAL;
    from = lt_max(from, w->head);
    if (to <= from)
        return 0;
    if (to >= w->tail && from == w->head) {
        window_jump(w, to);
        return 0;
    }
    if (to > w->tail) {
        int rc = window_extend(w, to);
        if (rc < 0)
            return rc;
    }
    window_close(w, from, to);
    return 0;
}

void lt_window_skip_to(struct lt_window *w, int64_t off) {
    off = lt_min(off, LT_WINDOW_OFFSET_MAX);
    if (off <= w->head)
        return;
    if (off >= w->tail)
        window_jump(w, off);
    else
        window_close(w, w->head, off);
}

bool lt_window_touch_to(struct lt_window *w, int64_t tail) {
    if (tail <= w->tail)
        return true;
    if (tail > w->room)
        return false;
    w->tail = tail;
    return true;
}

// ---- the check ---------------------------------------------------------------------------------

// window_check_bits holds the bits of one block to invariants 3, 4, 5 and 6.
static bool window_check_bits(const struct lt_window *w, const struct lt_window_block *block,
                              int64_t begin) {
    for (int64_t i = 0; i < LT_WINDOW_BLOCK; i++) {
        bool available = block->available[i / 64] & window_bit((uint64_t)i);
        bool final = block->final[i / 64] & window_bit((uint64_t)i);
        int64_t off = begin + i;
        if (available && (final || off < w->head))
            return false;
        if (off < w->head && !final)
            return false;
        if (off >= w->tail && off >= w->head && (available || final))
            return false;
        if (off == w->head && final)
            return false;
    }
    return block->n_final < LT_WINDOW_BLOCK;
}

// window_check_counts holds the counts and the summary word of one block to invariant 7.
static bool window_check_counts(const struct lt_window_block *block) {
    uint32_t available = 0;
    uint32_t final = 0;
    uint64_t summary = 0;
    for (uint64_t j = 0; j < WINDOW_WORDS; j++) {
        available += (uint32_t)__builtin_popcountll(block->available[j]);
        final += (uint32_t)__builtin_popcountll(block->final[j]);
        if (block->available[j])
            summary |= window_bit(j);
    }
    return available == block->n_available && final == block->n_final && summary == block->summary;
}

// window_check_tree holds each bit of the tree to what lies below it: invariant 7.
static bool window_check_tree(const struct lt_window *w) {
    size_t bits = w->cap;
    for (unsigned l = 0; l < w->levels; l++, bits = (bits + 63) / 64) {
        for (size_t i = 0; i < bits; i++) {
            bool below = false;
            if (l > 0)
                below = w->tree[w->level[l - 1] + i] != 0;
            else if (w->ring[i])
                below = w->ring[i]->n_available != 0;
            bool set = w->tree[w->level[l] + (i >> 6)] & window_bit(i);
            if (set != below)
                return false;
        }
    }
    return true;
}

// window_check_block holds what stands at one place of the ring to the invariants, and adds up what
// of it lies in the window.
static bool window_check_block(const struct lt_window *w, const struct lt_window_block *block,
                               int64_t begin, uint64_t *available, uint64_t *final) {
    if (block == &window_whole) {
        *final += LT_WINDOW_BLOCK;
        return begin > w->head && begin + LT_WINDOW_BLOCK <= w->tail;
    }
    *available += block->n_available;
    *final += block->n_final - (uint64_t)lt_max(w->head - begin, 0); // not what lies below head
    return window_check_bits(w, block, begin) && window_check_counts(block);
}

bool lt_window_check(const struct lt_window *w) {
    if (w->head < 0 || w->head > w->tail || w->tail > LT_WINDOW_OFFSET_MAX)
        return false;
    if (w->head < w->tail && w->tail > w->room)
        return false;
    uint64_t first = window_number(w->head);
    if (w->room % LT_WINDOW_BLOCK != 0 || w->room < window_begin(first))
        return false;
    uint64_t count = window_number(w->room) - first;
    if (count > w->cap)
        return false;
    uint64_t available = 0;
    uint64_t final = 0;
    for (uint64_t k = 0; k < w->cap; k++) {
        const struct lt_window_block *block = w->ring[window_place(w, first + k)];
        if ((block != NULL) != (k < count))
            return false;
        if (block && !window_check_block(w, block, window_begin(first + k), &available, &final))
            return false;
    }
    return available == w->available && final == w->final && window_check_tree(w);
}
