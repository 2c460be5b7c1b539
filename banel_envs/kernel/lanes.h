/* The step for registers of LANES numbers, its functions called NAME(...): transformer.c includes this for each width. */

#define vec NAME(vec)
#define ints NAME(ints)
#define loose NAME(loose)
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline)) TARGET
#define PANEL (2 * LANES)

/* Where `where` is all ones a, else b. */
INLINE vec NAME(pick)(ints where, vec a, vec b) { return (vec)(((ints)a & where) | ((ints)b & ~where)); }

/* x Phi(x); erf as a rational function of an argument held within 4. */
INLINE vec NAME(gelu)(vec x) {
  vec y = x * 0.70710678118654752f, four = x * 0 + 4;
  y = NAME(pick)(y > four, four, NAME(pick)(y < -four, -four, y));
  vec z = y * y;
  vec p = z * -2.72614225801306e-10f + 2.77068142495902e-08f;
  p = z * p - 2.10102402082508e-06f;
  p = z * p - 5.69250639462346e-05f;
  p = z * p - 7.34990630326855e-04f;
  p = z * p - 2.95459980854025e-03f;
  p = z * p - 1.60960333262415e-02f;
  vec q = z * -1.45660718464996e-05f - 2.13374055278905e-04f;
  q = z * q - 1.68282697438203e-03f;
  q = z * q - 7.37332916720468e-03f;
  q = z * q - 1.42647390514189e-02f;
  vec half = x * 0.5f;
  return half + half * (y * p / q);
}

/* exp of numbers not above 0. */
INLINE eight NAME(exp)(eight x) {
  eight least = x * 0 - 87.0f;
  eight_ints below = x < least;
  x = (eight)(((eight_ints)least & below) | ((eight_ints)x & ~below));
  eight n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f; /* to the nearest whole number */
  eight r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  eight p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * (eight)((__builtin_convertvector(n, eight_ints) + 127) << 23);
}

INLINE float NAME(total)(eight v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

/* Layer norm of x [d] into out [d]. */
INLINE void NAME(norm)(const float *x, const scale *by, int64_t d, float *out) {
  eight sum = {0}, square = {0};
  for (int64_t i = 0; i < d; i += 8) sum += AT8(x + i);
  float mean = NAME(total)(sum) / (float)d;
  for (int64_t i = 0; i < d; i += 8) {
    eight centred = AT8(x + i) - mean;
    square += centred * centred;
  }
  float inverse = 1 / sqrtf(NAME(total)(square) / (float)d + 1e-5f);
  for (int64_t i = 0; i < d; i += 8)
    *(loose8 *)(out + i) = (AT8(x + i) - mean) * inverse * AT8(by->weight + i) + AT8(by->bias + i);
}

INLINE void NAME(store)(float *c, vec left, vec right, const enum mode mode) {
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

/* C [R, PANEL] from A [R, k], one panel and its bias; the 2 R sums stay in registers. */
#define BEGIN(r) vec left##r = *(const loose *)bias, right##r = *(const loose *)(bias + LANES);
#define GROW(r) left##r += p * a[r * k + i], right##r += q * a[r * k + i];
#define END(r) NAME(store)(c + r * stride, left##r, right##r, mode);
#define TILE(R)                                                                                                    \
  INLINE void NAME(tile##R)(const float *a, int64_t k, const float *panel, const float *bias, float *c, int64_t stride, \
                            const enum mode mode) {                                                                \
    EACH##R(BEGIN) for (int64_t i = 0; i < k; i++) {                                                               \
      vec p = *(const loose *)(panel + i * PANEL), q = *(const loose *)(panel + i * PANEL + LANES);                \
      EACH##R(GROW)                                                                                                \
    }                                                                                                              \
    EACH##R(END)                                                                                                   \
  }
TILE(12) TILE(6) TILE(3) TILE(1)

/* C [m, out] from A [m, k]; rows of C lie `stride` apart. */
INLINE void NAME(product)(const float *a, int64_t m, int64_t k, const matrix *b, float *c, int64_t stride,
                          const enum mode mode) {
  for (int64_t j = 0; j < b->out; j += PANEL) {
    const float *panel = b->packed + j * k, *bias = b->bias + j;
    int64_t i = 0;
#define TILES(R) \
  for (; m - i >= R; i += R) NAME(tile##R)(a + i * k, k, panel, bias, c + i * stride + j, stride, mode);
    if (LANES != 8) { TILES(12) } /* where registers hold eight there are 16 of them, elsewhere 32 */
    TILES(6) TILES(3) TILES(1)
#undef TILES
  }
}

/* What a query [d] takes from the values of the t positions whose pairs `rows` names: out [d]. */
INLINE void NAME(attend)(const float *query, const float *pairs, const int64_t *rows, int64_t t, int64_t d, int64_t heads,
                         float *scores, float *out) {
  int64_t features = d / heads;
  float by = 1 / sqrtf((float)features);
  for (int64_t s = 0; s < t; s++) {
    const float *key = pairs + rows[s] * 2 * d;
    for (int64_t h = 0; h < heads; h++) {
      eight sum = {0};
      for (int64_t f = h * features; f < (h + 1) * features; f += 8) sum += AT8(query + f) * AT8(key + f);
      scores[h * t + s] = NAME(total)(sum) * by;
    }
  }
  for (int64_t h = 0; h < heads; h++) {
    float most = scores[h * t];
    for (int64_t s = 1; s < t; s++) most = scores[h * t + s] > most ? scores[h * t + s] : most;
    for (int64_t s = 0; s < t; s++) scores[h * t + s] -= most;
  }
  for (int64_t i = 0; i < heads * t; i += 8) *(loose8 *)(scores + i) = NAME(exp)(AT8(scores + i));
  for (int64_t h = 0; h < heads; h++) {
    float total = 0;
    for (int64_t s = 0; s < t; s++) total += scores[h * t + s];
    for (int64_t f = h * features; f < (h + 1) * features; f += 8) {
      eight sum = {0};
      for (int64_t s = 0; s < t; s++) sum += AT8(pairs + rows[s] * 2 * d + d + f) * scores[h * t + s];
      *(loose8 *)(out + f) = sum / total;
    }
  }
}

/* x [n, d] and, normed by the first block, out [n, d], from the tokens before `position` [n]. */
INLINE void NAME(embed)(const network *net, const int64_t *last, int64_t position, int64_t n, float *x, float *out) {
  int64_t d = net->width;
  const float *place = net->position + position * d;
  for (int64_t r = 0; r < n; r++, x += d, out += d) {
    for (int64_t f = 0; f < d; f += 8) *(loose8 *)(x + f) = AT8(net->token + last[r] * d + f) + AT8(place + f);
    NAME(norm)(x, &net->blocks->norm1, d, out);
  }
}

/* Log-softmax of logits / temperature, in double. */
INLINE void NAME(normalise)(const float *logits, const float *after, int64_t V, double temperature, double *out) {
  double most = -INFINITY, total = 0;
  for (int64_t v = 0; v < V; v++) {
    out[v] = (after ? logits[v] + after[v] : logits[v]) / temperature;
    most = out[v] > most ? out[v] : most;
  }
  for (int64_t v = 0; v < V; v++) total += exp(out[v] - most);
  most += log(total);
  for (int64_t v = 0; v < V; v++) out[v] -= most;
}

/* Next-token log-probabilities [m, V] of m prefixes, from their last tokens `last` [m], which stand before `position`:
   -1, or where in `last` there is no token (nothing is computed then).

   Prefix i is row at + i; its parents and entered rows are filled in. `inputs` [r], r <= V + 1, are the tokens that enter
   the first block, for its rows from `entering` on, and taken [m] says which of them each prefix takes. */
TARGET int64_t NAME(banel_step)(const network *net, const int64_t *last, int64_t position, int64_t m, int64_t at,
                                const int64_t *inputs, int64_t r, int64_t entering, const int64_t *taken,
                                double temperature, double *log_probs) {
  int64_t d = net->width, V = net->vocabulary, t = position + 1;
  int64_t *ancestors = net->scratch, *shared = ancestors + STRIP * t;
  float *x = (float *)(shared + t), *narrow = x + STRIP * d, *queries = narrow + STRIP * d;
  float *entered = queries + STRIP * d, *scores = entered + (V + 1) * d, *wide = scores + t * net->heads + 8;
  for (int64_t i = 0; i < m; i++)
    if (last[i] < 0 || last[i] > V) return i;
  for (int64_t i = 0; i < r; i += STRIP) {
    int64_t n = r - i < STRIP ? r - i : STRIP;
    NAME(embed)(net, inputs + i, position, n, x, narrow);
    NAME(product)(narrow, n, d, &net->blocks->query, entered + i * d, d, SET);
    NAME(product)(narrow, n, d, &net->blocks->pair, net->blocks->pairs + (entering + i) * 2 * d, 2 * d, SET);
  }
  for (int64_t i = 0; i < m; i += STRIP) {
    int64_t n = m - i < STRIP ? m - i : STRIP;
    NAME(embed)(net, last + i, position, n, x, narrow);
    for (int64_t j = 0; j < n; j++)
      for (int64_t s = t - 1, row = at + i + j; s >= 0; s--, row = net->parents[row]) ancestors[j * t + s] = row;
    for (const block *b = net->blocks; b < net->blocks + net->layers; b++) {
      int first = b == net->blocks;
      if (!first) {
        for (int64_t j = 0; j < n; j++) NAME(norm)(x + j * d, &b->norm1, d, narrow + j * d);
        NAME(product)(narrow, n, d, &b->query, queries, d, SET);
        NAME(product)(narrow, n, d, &b->pair, b->pairs + (at + i) * 2 * d, 2 * d, SET);
      }
      for (int64_t j = 0; j < n; j++) {
        const int64_t *rows = ancestors + j * t;
        for (int64_t s = 0; first && s < t; s++) shared[s] = net->entered[rows[s]];
        NAME(attend)(first ? entered + taken[i + j] * d : queries + j * d, b->pairs, first ? shared : rows, t, d,
                     net->heads, scores, narrow + j * d);
      }
      NAME(product)(narrow, n, d, &b->mix, x, d, ADD);
      for (int64_t j = 0; j < n; j++) NAME(norm)(x + j * d, &b->norm2, d, narrow + j * d);
      NAME(product)(narrow, n, d, &b->up, wide, 4 * d, GELU);
      NAME(product)(wide, n, 4 * d, &b->down, x, d, ADD);
    }
    for (int64_t j = 0; j < n; j++) NAME(norm)(x + j * d, &net->norm, d, narrow + j * d);
    NAME(product)(narrow, n, d, &net->head, wide, net->head.out, SET);
    for (int64_t j = 0; j < n; j++)
      NAME(normalise)(wide + j * net->head.out, net->after ? net->after + last[i + j] * net->head.out : 0, V, temperature,
                      log_probs + (i + j) * V);
  }
  return -1;
}

#undef vec
#undef ints
#undef loose
#undef INLINE
#undef PANEL
#undef BEGIN
#undef GROW
#undef END
#undef TILE
#undef NAME
#undef LANES
