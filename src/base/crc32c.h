/* SPDX-License-Identifier: MIT */
// crc32c is the checksum of everything on disk: CRC-32C (Castagnoli, reflected polynomial
// 0x82f63b78, initial value and final xor all ones).
#ifndef LT_BASE_CRC32C_H
#define LT_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

// lt_crc32c goes on with crc (0 to begin) over n bytes at any alignment: the crc of a and b behind
// it is lt_crc32c(lt_crc32c(0, a), b). It picks the fastest way this machine has, at the first
// call. data may be NULL when n is 0. Threads: any.
uint32_t lt_crc32c(uint32_t crc, const void *data, size_t n);

// lt_crc32c_text goes on over n bytes and a zero byte behind them, which need not be there.
// lt_crc32c_words goes on over a u32 and n u64, each as its bytes in little-endian order.
uint32_t lt_crc32c_text(uint32_t crc, const void *data, size_t n);
uint32_t lt_crc32c_words(uint32_t crc, uint32_t first, const uint64_t *word, size_t n);

// lt_crc32c_table is the same by tables alone: what machines without a crc instruction use, and
// what tests hold the others against.
// Threads: any.
uint32_t lt_crc32c_table(uint32_t crc, const void *data, size_t n);

// lt_crc32c_best_name tells which way lt_crc32c goes here: "sse4.2", "armv8" or "table".
const char *lt_crc32c_best_name(void);

#endif
