/* The compiled kernel, for CPUs: a transformer's step for many prefixes (step.h) and its training step (train.h),
   the same for a gated recurrent network (gru.h), and the step of Adam (adam.h).
   banel_envs/policies/steps/compiled_steps.py and banel_envs/policies/training call it.

   The same bits for every batch, on every processor, from every compiler and at every level of optimisation: portable.h
   and lanes.h say how. Everything is compiled once for each width of register. Nothing here allocates or keeps state;
   tokens are checked, everything else is the caller's own. Keys and values of the step are kept row by row, [2 d] each,
   and read where they lie; a matrix is packed in panels of PANEL columns, [out / PANEL, in, PANEL].
   tests/kernel holds all of it against float64.
   Sources: Goto and van de Geijn 2008 (panels), Cephes (expf, tanhf), Eigen (erf), fdlibm (exp, log). */

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#ifdef BANEL_GUARDED
#include <sanitizer/asan_interface.h>
#endif

#include "portable.h"

typedef struct {
  int64_t out; /* columns, a multiple of PANEL */
  const float *packed, *bias;
} matrix;

typedef struct {
  const float *weight, *bias; /* [d] */
} scale;

typedef struct {
  scale norm1, norm2;
  matrix query, pair, mix, up, down; /* pair: key and value side by side */
  float *pairs; /* [rows, 2 d] */
} block;

typedef struct {
  int64_t width, heads, layers, vocabulary; /* d, a multiple of 8 heads; V */
  const float *token, *position; /* [V + 1, d], [T, d] */
  const block *blocks;
  scale norm;
  matrix head;
  const float *after; /* what the token before adds to the logits [V + 1, head.out], or null */
  const int64_t *parents; /* of each row the row of the prefix one token shorter */
  const int64_t *entered; /* and the row of its pair in the first block, where prefixes share them */
  void *scratch; /* banel_scratch(...) bytes */
} network;

typedef struct {
  float *at, *gradient;
} parameter;

typedef struct {
  parameter weight, bias; /* [out, in], [out] */
} layer;

typedef struct {
  layer norm1, qkv, mix, norm2, up, down;
} trained_block;

typedef struct {
  int64_t width, heads, layers, vocabulary;
  int64_t after; /* V + 1 where the head reads the one-hot vector of the last token behind the features, else 0 */
  parameter token, position;
  const trained_block *blocks;
  layer norm, head;
} trained;

#define MOST_LAYERS 64

/* One layer of a GRU: the products of its input and of its state, both [3 d, d]: reset gate, update gate, new state. */
typedef struct {
  matrix in, state;
} cell;

typedef struct {
  int64_t width, layers, vocabulary;
  const float *token, *position;
  const cell *cells;
  matrix head;
  void *scratch; /* banel_gru_scratch(...) bytes */
} recurrent;

typedef struct {
  layer in, state;
} trained_cell;

typedef struct {
  int64_t width, layers, vocabulary;
  parameter token, position;
  const trained_cell *cells;
  layer head;
} trained_recurrent;

/* Floats that are claimed one array after the other; base is null while they are only counted. */
typedef struct {
  float *base;
  int64_t used;
} arena;

ALWAYS float *claim(arena *from, int64_t n) {
  float *begin = from->base ? from->base + from->used : 0;
  from->used += n;
#ifdef BANEL_GUARDED /* to test: the address sanitizer watches a fence behind each array */
  if (from->base) ASAN_POISON_MEMORY_REGION(begin + n, 16 * sizeof(float));
  from->used += 16;
#endif
  return begin;
}

#include "trie.h"

enum mode { SET, ADD, GELU };
#define STRIP 96 /* rows taken through all blocks together: what they touch stays in the first two caches */

#define EACH1(X) X(0)
#define EACH3(X) EACH1(X) X(1) X(2)
#define EACH6(X) EACH3(X) X(3) X(4) X(5)
#define EACH12(X) EACH6(X) X(6) X(7) X(8) X(9) X(10) X(11)

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,fma")))
#elif defined(__aarch64__)
#define TARGET
#else
#error "no fused multiply-add known here; PyTorch's operations do without this file"
#endif

#define NAME(x) x##_4
#define LANES 4
#include "width.h"

#ifndef BANEL_MOST_LANES /* a build to test one width leaves out the greater ones */
#define BANEL_MOST_LANES 16
#endif
#if defined(__x86_64__)
#if BANEL_MOST_LANES >= 8
#define NAME(x) x##_8
#define LANES 8
#include "width.h"
#endif

#if BANEL_MOST_LANES >= 16
#undef TARGET
#ifdef BANEL_HALVES
#define TARGET __attribute__((target("avx2,fma")))
#else
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#endif
#define NAME(x) x##_16
#define LANES 16
#include "width.h"
#endif
#endif

/* The SHA-256 of the sources and the compiler: a library of another layout is never called. */
#if defined(__clang__)
const char *banel_built(void) { return BANEL_DIGEST " " __VERSION__; }
#else
const char *banel_built(void) { return BANEL_DIGEST " gcc " __VERSION__; }
#endif

/* Bytes of scratch for sequences of up to T tokens. */
int64_t banel_scratch(const network *net, int64_t T) {
  int64_t d = net->width, wide = 4 * d > net->head.out ? 4 * d : net->head.out;
  int64_t singles = STRIP * (3 * d + wide) + (net->vocabulary + 1) * d + T * net->heads + 8;
  return ((STRIP + 1) * T + net->vocabulary) * (int64_t)sizeof(int64_t) + singles * (int64_t)sizeof(float);
}

#if defined(__x86_64__)
/* Whether the processor and the operating system have registers of 8 (AVX2 and FMA) or of 16 numbers (AVX-512). */
static int registers(void) {
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1 << 12) || !(c & 1 << 27)) return 0; /* FMA; xgetbv may be used */
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1 << 5) || (low & 0x6) != 0x6) return 0;
  return (b & 1 << 16) && (low & 0xe6) == 0xe6 ? 16 : 8;
}
#endif

int64_t banel_gru_scratch(const recurrent *net) {
  int64_t d = net->width, V = net->vocabulary;
  return V * (int64_t)sizeof(double) + ((V + 1) * 4 * d + STRIP * (7 * d + net->head.out)) * (int64_t)sizeof(float);
}

/* The widest registers that can be used here, in numbers; 0: none that will do. */
int banel_lanes(void) {
#if defined(__aarch64__)
  return 4;
#elif defined(BANEL_HALVES)
  return registers() ? 16 : 0;
#else
  int found = registers();
  return found < BANEL_MOST_LANES ? found : BANEL_MOST_LANES;
#endif
}
