/* What the step and the training share, for registers of LANES numbers. kernel.c includes this once for each width.

   A product is one chain of fused multiply-adds for each number, in the order of its inputs, whatever the width of a
   register or the number of rows that are computed together. Other sums run over eight partial sums. */

#define vec NAME(vec)
#define ints NAME(ints)
#define loose NAME(loose)
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline)) TARGET
#define PANEL (2 * LANES)
#define ALL(vec, x) ((x) - (vec){0}) /* minus 0 changes no number, so that nothing is computed */

/* a b + c, rounded once. */
#if defined(__aarch64__)
INLINE vec NAME(fma)(vec a, vec b, vec c) { return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE eight NAME(fma8)(eight a, eight b, eight c) {
  union { eight all; vec half[2]; } x = {a}, y = {b}, z = {c};
  for (int i = 0; i < 2; i++) z.half[i] = NAME(fma)(x.half[i], y.half[i], z.half[i]);
  return z.all;
}
#else
INLINE eight NAME(fma8)(eight a, eight b, eight c) { return (eight)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
#if LANES == 4
INLINE vec NAME(fma)(vec a, vec b, vec c) { return (vec)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c); }
#elif LANES == 8
INLINE vec NAME(fma)(vec a, vec b, vec c) { return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
#elif defined(BANEL_HALVES) /* sixteen numbers in two registers of eight: to test the width where AVX-512 is missing */
INLINE vec NAME(fma)(vec a, vec b, vec c) {
  union { vec all; eight half[2]; } x = {a}, y = {b}, z = {c};
  for (int i = 0; i < 2; i++) z.half[i] = NAME(fma8)(x.half[i], y.half[i], z.half[i]);
  return z.all;
}
#else
INLINE vec NAME(fma)(vec a, vec b, vec c) { return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
#endif
#endif

/* Where `where` is all ones a, else b. */
INLINE vec NAME(pick)(ints where, vec a, vec b) { return (vec)(((ints)a & where) | ((ints)b & ~where)); }
INLINE eight NAME(pick8)(eight_ints where, eight a, eight b) {
  return (eight)(((eight_ints)a & where) | ((eight_ints)b & ~where));
}

/* Phi(x), the normal distribution; erf as a rational function of an argument held within 4. */
INLINE vec NAME(phi)(vec x) {
  vec y = x * 0.70710678118654752f, four = ALL(vec, 4);
  y = NAME(pick)(y > four, four, NAME(pick)(y < -four, -four, y));
  vec z = y * y;
#define GROW(p, by) p = NAME(fma)(z, p, ALL(vec, by));
  vec p = ALL(vec, -2.72614225801306e-10f);
  GROW(p, 2.77068142495902e-08f)
  GROW(p, -2.10102402082508e-06f)
  GROW(p, -5.69250639462346e-05f)
  GROW(p, -7.34990630326855e-04f)
  GROW(p, -2.95459980854025e-03f)
  GROW(p, -1.60960333262415e-02f)
  vec q = ALL(vec, -1.45660718464996e-05f);
  GROW(q, -2.13374055278905e-04f)
  GROW(q, -1.68282697438203e-03f)
  GROW(q, -7.37332916720468e-03f)
  GROW(q, -1.42647390514189e-02f)
#undef GROW
  return 0.5f + 0.5f * (y * p / q);
}

/* x Phi(x) */
INLINE vec NAME(gelu)(vec x) { return x * NAME(phi)(x); }

/* exp of numbers not above 0. */
#define EXP(name, vec, ints, fma, pick)                                       \
  INLINE vec NAME(name)(vec x) {                                              \
    vec least = ALL(vec, -87.0f);                                                \
    x = NAME(pick)(x < least, least, x);                                      \
    vec n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f; /* to the nearest whole number */ \
    vec r = NAME(fma)(n, ALL(vec, -0.693359375f), x);                            \
    r = NAME(fma)(n, ALL(vec, 2.12194440e-4f), r);                              \
    vec p = NAME(fma)(r, ALL(vec, 1.9875691500e-4f), ALL(vec, 1.3981999507e-3f)); \
    p = NAME(fma)(p, r, ALL(vec, 8.3334519073e-3f));                            \
    p = NAME(fma)(p, r, ALL(vec, 4.1665795894e-2f));                            \
    p = NAME(fma)(p, r, ALL(vec, 1.6666665459e-1f));                            \
    p = NAME(fma)(p, r, ALL(vec, 5.0000001201e-1f));                            \
    p = NAME(fma)(p, r * r, r) + 1.0f;                                        \
    return p * (vec)((__builtin_convertvector(n, ints) + 127) << 23);         \
  }
EXP(exp, vec, ints, fma, pick)
EXP(exp8, eight, eight_ints, fma8, pick8)
#undef EXP

INLINE vec NAME(size)(vec x) { return (vec)((ints)x & 0x7fffffff); }

INLINE vec NAME(sigmoid)(vec x) {
  vec e = NAME(exp)(-NAME(size)(x)), by = 1 / (1 + e);
  return NAME(pick)(x < ALL(vec, 0), e * by, by);
}

INLINE vec NAME(tanh)(vec x) {
  vec at = NAME(size)(x), e = NAME(exp)(at * -2.0f), far = (1 - e) / (1 + e), z = x * x;
  far = (vec)((ints)far | ((ints)x & (ints)ALL(vec, -0.0f))); /* with the sign of x */
  vec p = NAME(fma)(z, ALL(vec, -5.70498872745e-3f), ALL(vec, 2.06390887954e-2f));
  p = NAME(fma)(z, p, ALL(vec, -5.37397155531e-2f));
  p = NAME(fma)(z, p, ALL(vec, 1.33314422036e-1f));
  p = NAME(fma)(z, p, ALL(vec, -3.33332819422e-1f));
  return NAME(pick)(at < ALL(vec, 0.625f), NAME(fma)(p * z, x, x), far);
}

/* Four numbers in double at once; the last n % 4 of a row give the same bits one by one. */
#define BITS_FOUR(x) ((wide_ints)(x))
#define REAL_FOUR(x) ((wide_doubles)(x))
#define PICK_FOUR(where, a, b) ((wide_doubles)(((wide_ints)(a) & (where)) | ((wide_ints)(b) & ~(where))))
INLINE wide_doubles NAME(exp4)(wide_doubles x) { DOUBLE_EXP(wide_doubles, wide_words, BITS_FOUR, REAL_FOUR, PICK_FOUR) }

TARGET void NAME(banel_exp)(const double *x, int64_t n, double *out) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) *(loose_doubles *)(out + i) = NAME(exp4)(*(const loose_doubles *)(x + i));
  for (; i < n; i++) out[i] = portable_exp(x[i]);
}

INLINE float NAME(total)(eight v) {
#if defined(__aarch64__)
  union { eight all; four half[2]; } x = {v};
  four half = x.half[0] + x.half[1];
  return (half[0] + half[2]) + (half[1] + half[3]);
#else
  four half = (four)_mm256_castps256_ps128((__m256)v) + (four)_mm256_extractf128_ps((__m256)v, 1);
  four quarter = half + (four)_mm_movehl_ps((__m128)half, (__m128)half);
  return quarter[0] + quarter[1];
#endif
}

/* The sum of a [n] b [n], over eight partial sums; n is a multiple of eight. */
INLINE float NAME(dot)(const float *a, const float *b, int64_t n) {
  eight sum = {0};
  for (int64_t i = 0; i < n; i += 8) sum = NAME(fma8)(AT8(a + i), AT8(b + i), sum);
  return NAME(total)(sum);
}

/* x [d] centred and divided by its deviation into `normal`, scaled and shifted into `out`; returns 1 / deviation. */
INLINE float NAME(norm)(const float *x, const float *weight, const float *bias, int64_t d, float *normal, float *out) {
  eight sum = {0}, square = {0};
  for (int64_t i = 0; i < d; i += 8) sum += AT8(x + i);
  float mean = NAME(total)(sum) / (float)d;
  for (int64_t i = 0; i < d; i += 8) {
    eight centred = AT8(x + i) - mean;
    square = NAME(fma8)(centred, centred, square);
  }
  float inverse = 1 / sqrtf(NAME(total)(square) / (float)d + 1e-5f);
  for (int64_t i = 0; i < d; i += 8) {
    eight scaled = (AT8(x + i) - mean) * inverse;
    PUT8(normal + i) = scaled;
    PUT8(out + i) = NAME(fma8)(scaled, AT8(weight + i), AT8(bias + i));
  }
  return inverse;
}

INLINE void NAME(store)(float *c, vec left, vec right, const int mode) {
  loose *out = (loose *)c;
  if (mode == ADD) {
    left += out[0];
    right += out[1];
  } else if (mode == GELU) {
    left = NAME(gelu)(left);
    right = NAME(gelu)(right);
  }
  out[0] = left;
  out[1] = right;
}

/* C [R, PANEL] = bias + sum over i < k of A(r, i) B(i, PANEL); the 2 R sums stay in registers. A(r, i) is a[r * across +
   i * along], and B(i, :) begins at panel + i * apart. */
#define BEGIN(r) vec left##r = bias ? (vec) * (const loose *)bias : none, right##r = bias ? (vec) * (const loose *)(bias + LANES) : none;
#define GROW(r)                                        \
  {                                                    \
    vec by = ALL(vec, a[r * across + i * along]);       \
    left##r = NAME(fma)(p, by, left##r);               \
    right##r = NAME(fma)(q, by, right##r);             \
  }
#define END(r) NAME(store)(c + r * stride, left##r, right##r, mode);
#define TILE(R)                                                                                                   \
  INLINE void NAME(tile##R)(const float *a, int64_t across, int64_t along, int64_t k, const float *panel, int64_t apart, \
                            const float *bias, float *c, int64_t stride, const int mode) {                        \
    const vec none = {0};                                                                                         \
    EACH##R(BEGIN) for (int64_t i = 0; i < k; i++) {                                                              \
      vec p = *(const loose *)(panel + i * apart), q = *(const loose *)(panel + i * apart + LANES);               \
      EACH##R(GROW)                                                                                               \
    }                                                                                                             \
    EACH##R(END)                                                                                                  \
  }
TILE(12) TILE(6) TILE(3) TILE(1)

/* The rows of C [m, PANEL] for one panel. */
INLINE void NAME(rows)(const float *a, int64_t across, int64_t along, int64_t m, int64_t k, const float *panel,
                       int64_t apart, const float *bias, float *c, int64_t stride, const int mode) {
  int64_t i = 0;
#define TILES(R)                                                                                                   \
  for (; m - i >= R; i += R)                                                                                       \
    NAME(tile##R)(a + i * across, across, along, k, panel, apart, bias, c + i * stride, stride, mode);
  if (LANES != 8) { TILES(12) } /* where registers hold eight there are 16 of them, elsewhere 32 */
  TILES(6) TILES(3) TILES(1)
#undef TILES
}

/* C [m, out] from A [m, k] and a packed matrix; rows of C lie `stride` apart. A function for each mode, which is not copied to
   where it is called: the tiles are most of what a compiler has to do. */
#define MULTIPLY(name, mode)                                                                                        \
  static TARGET void NAME(name)(const float *a, int64_t m, int64_t k, const matrix *b, float *c, int64_t stride) {   \
    for (int64_t j = 0; j < b->out; j += PANEL)                                                                      \
      NAME(rows)(a, k, 1, m, k, b->packed + j * k, PANEL, b->bias + j, c + j, stride, mode);                         \
  }
MULTIPLY(multiply, SET) MULTIPLY(multiply_add, ADD) MULTIPLY(multiply_gelu, GELU)

#undef BEGIN
#undef GROW
#undef END
#undef TILE
#undef MULTIPLY

/* What a query [d] takes from the values of the t positions whose pairs `rows` names: out [d]. A pair is a key [d] and a
   value [d] behind it; pairs lie `stride` apart. `weights` [heads, t] gets the attention weights (and up to 7 numbers more). */
INLINE void NAME(attend)(const float *query, const float *pairs, int64_t stride, const int64_t *rows, int64_t t, int64_t d,
                         int64_t heads, float *weights, float *out) {
  int64_t features = d / heads;
  float by = 1 / sqrtf((float)features);
  for (int64_t s = 0; s < t; s++) {
    const float *key = pairs + rows[s] * stride;
    for (int64_t h = 0; h < heads; h++)
      weights[h * t + s] = NAME(dot)(query + h * features, key + h * features, features) * by;
  }
  for (int64_t h = 0; h < heads; h++) {
    float most = weights[h * t];
    for (int64_t s = 1; s < t; s++) most = weights[h * t + s] > most ? weights[h * t + s] : most;
    for (int64_t s = 0; s < t; s++) weights[h * t + s] -= most;
  }
  for (int64_t i = 0; i < heads * t; i += 8) PUT8(weights + i) = NAME(exp8)(AT8(weights + i));
  for (int64_t h = 0; h < heads; h++) {
    float total = 0;
    for (int64_t s = 0; s < t; s++) total += weights[h * t + s];
    for (int64_t s = 0; s < t; s++) weights[h * t + s] /= total;
    for (int64_t f = h * features; f < (h + 1) * features; f += 8) {
      eight sum = {0};
      for (int64_t s = 0; s < t; s++)
        sum = NAME(fma8)(AT8(pairs + rows[s] * stride + d + f), ALL(eight, weights[h * t + s]), sum);
      PUT8(out + f) = sum;
    }
  }
}
