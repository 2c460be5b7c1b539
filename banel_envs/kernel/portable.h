/* Numbers that are the same to the last bit on every processor and from every compiler.

   Only additions, products, divisions, square roots and fused multiply-adds are used, which IEEE 754 rounds in one way.
   The compiler must not fuse what is not written as fused (-ffp-contract=off) and must not reorder (no -ffast-math).
   exp and log in double use no fused multiply-add, so that banel_envs/kernel/portable.py computes the same bits in NumPy.
   Sources: fdlibm (exp and log in double), Cephes (exp and tanh in float). */

typedef float eight __attribute__((vector_size(32)));
typedef float four __attribute__((vector_size(16)));
typedef int32_t eight_ints __attribute__((vector_size(32)));
typedef float loose8 __attribute__((vector_size(32), aligned(4), may_alias)); /* eight numbers at any address */
#define AT8(p) (*(const loose8 *)(p))
#define PUT8(p) (*(loose8 *)(p))
#define ALWAYS static inline __attribute__((always_inline))

ALWAYS int64_t bits_of(double x) {
  int64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

ALWAYS double of_bits(int64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

typedef double wide_doubles __attribute__((vector_size(32)));
typedef int64_t wide_ints __attribute__((vector_size(32)));
typedef uint64_t wide_words __attribute__((vector_size(32))); /* signed numbers may not be shifted out to the left */
typedef double loose_doubles __attribute__((vector_size(32), aligned(8), may_alias));

/* exp in double, within one unit in the last place, for numbers (double, uint64_t) or vectors of four of them. */
#define DOUBLE_EXP(real, words, BITS, REAL, PICK)                                                                  \
  real least = (real){0} - 746, most = (real){0} + 710, rounding = (real){0} + 6755399441055744.0;                 \
  x = PICK(x < least, least, PICK(x > most, most, x));                                                             \
  real k = (x * 1.44269504088896338700e+00 + rounding) - rounding; /* the nearest whole number */                  \
  real high = x - k * 6.93147180369123816490e-01, low = k * 1.90821492927058770002e-10;                            \
  real r = high - low, t = r * r;                                                                                  \
  real c = t * 4.13813679705723846039e-08 - 1.65339022054652515390e-06;                                            \
  c = t * c + 6.61375632143793436117e-05;                                                                          \
  c = t * c - 2.77777777770155933842e-03;                                                                          \
  c = t * c + 1.66666666666666019037e-01;                                                                          \
  c = r - t * c;                                                                                                   \
  real y = 1 - ((low - (r * c) / (2 - c)) - high);                                                                 \
  /* 2^k in two steps, so that the result may be below the smallest normal number */                               \
  real first = k * 0.5 + rounding, second = (k - (first - rounding)) + rounding;                                   \
  return y * REAL((words)(BITS(first) + 1023) << 52) * REAL((words)(BITS(second) + 1023) << 52);

#define PICK_ONE(where, a, b) ((where) ? (a) : (b))
static double portable_exp(double x) { DOUBLE_EXP(double, uint64_t, bits_of, of_bits, PICK_ONE) }

/* log in double, within one unit in the last place; -inf of 0, NaN of negative numbers. */
static double portable_log(double x) {
  if (!(x > 0)) return x == 0 ? -INFINITY : NAN;
  if (x == INFINITY) return x;
  int64_t k = 0;
  if (x < 2.2250738585072014e-308) {
    x *= 18014398509481984.0; /* 2^54: below the smallest normal number */
    k = -54;
  }
  int64_t bits = bits_of(x), fraction = bits & 0xfffffffffffff;
  int64_t up = fraction > 0x6a09e667f3bcc; /* the fraction is between sqrt(1/2) and sqrt(2) */
  k += (bits >> 52) - 1023 + up;
  double f = of_bits(fraction | ((1023 - up) << 52)) - 1;
  double s = f / (2 + f), z = s * s, w = z * z;
  double even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  double odd = z * (6.666666666666735130e-01 +
                    w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  double half = 0.5 * f * f, n = (double)k;
  return n * 6.93147180369123816490e-01 - ((half - (s * (half + (odd + even)) + n * 1.90821492927058770002e-10)) - f);
}

void banel_log(const double *x, int64_t n, double *out) {
  for (int64_t i = 0; i < n; i++) out[i] = portable_log(x[i]);
}
