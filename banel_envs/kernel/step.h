/* The transformer's step for registers of LANES numbers: kernel.c includes this for each width. */

/* Layer norm of x [d] into out [d]. */
INLINE void NAME(scaled)(const float *x, const scale *by, int64_t d, float *out) {
  NAME(norm)(x, by->weight, by->bias, d, out, out);
}

/* x [n, d] and, normed by the first block, out [n, d], from the tokens before `position` [n]. */
INLINE void NAME(embed)(const network *net, const int64_t *last, int64_t position, int64_t n, float *x, float *out) {
  int64_t d = net->width;
  const float *place = net->position + position * d;
  for (int64_t r = 0; r < n; r++, x += d, out += d) {
    for (int64_t f = 0; f < d; f += 8) PUT8(x + f) = AT8(net->token + last[r] * d + f) + AT8(place + f);
    NAME(scaled)(x, &net->blocks->norm1, d, out);
  }
}

/* Log-softmax of logits / temperature, in double; `work` [V] is overwritten. */
INLINE void NAME(normalise)(const float *logits, const float *after, int64_t V, double temperature, double *work, double *out) {
  double most = -INFINITY, total = 0;
  for (int64_t v = 0; v < V; v++) {
    out[v] = (after ? logits[v] + after[v] : logits[v]) / temperature;
    most = out[v] > most ? out[v] : most;
  }
  for (int64_t v = 0; v < V; v++) work[v] = out[v] - most;
  NAME(banel_exp)(work, V, work);
  for (int64_t v = 0; v < V; v++) total += work[v];
  most += portable_log(total);
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
  double *work = net->scratch;
  int64_t *ancestors = (int64_t *)(work + V), *shared = ancestors + STRIP * t;
  float *x = (float *)(shared + t), *narrow = x + STRIP * d, *queries = narrow + STRIP * d;
  float *entered = queries + STRIP * d, *scores = entered + (V + 1) * d, *wide = scores + t * net->heads + 8;
  for (int64_t i = 0; i < m; i++)
    if (last[i] < 0 || last[i] > V) return i;
  for (int64_t i = 0; i < r; i += STRIP) {
    int64_t n = r - i < STRIP ? r - i : STRIP;
    NAME(embed)(net, inputs + i, position, n, x, narrow);
    NAME(multiply)(narrow, n, d, &net->blocks->query, entered + i * d, d);
    NAME(multiply)(narrow, n, d, &net->blocks->pair, net->blocks->pairs + (entering + i) * 2 * d, 2 * d);
  }
  for (int64_t i = 0; i < m; i += STRIP) {
    int64_t n = m - i < STRIP ? m - i : STRIP;
    NAME(embed)(net, last + i, position, n, x, narrow);
    for (int64_t j = 0; j < n; j++)
      for (int64_t s = t - 1, row = at + i + j; s >= 0; s--, row = net->parents[row]) ancestors[j * t + s] = row;
    for (const block *b = net->blocks; b < net->blocks + net->layers; b++) {
      int first = b == net->blocks;
      if (!first) {
        for (int64_t j = 0; j < n; j++) NAME(scaled)(x + j * d, &b->norm1, d, narrow + j * d);
        NAME(multiply)(narrow, n, d, &b->query, queries, d);
        NAME(multiply)(narrow, n, d, &b->pair, b->pairs + (at + i) * 2 * d, 2 * d);
      }
      for (int64_t j = 0; j < n; j++) {
        const int64_t *rows = ancestors + j * t;
        for (int64_t s = 0; first && s < t; s++) shared[s] = net->entered[rows[s]];
        NAME(attend)(first ? entered + taken[i + j] * d : queries + j * d, b->pairs, 2 * d, first ? shared : rows, t, d,
                     net->heads, scores, narrow + j * d);
      }
      NAME(multiply_add)(narrow, n, d, &b->mix, x, d);
      for (int64_t j = 0; j < n; j++) NAME(scaled)(x + j * d, &b->norm2, d, narrow + j * d);
      NAME(multiply_gelu)(narrow, n, d, &b->up, wide, 4 * d);
      NAME(multiply_add)(wide, n, 4 * d, &b->down, x, d);
    }
    for (int64_t j = 0; j < n; j++) NAME(scaled)(x + j * d, &net->norm, d, narrow + j * d);
    NAME(multiply)(narrow, n, d, &net->head, wide, net->head.out);
    for (int64_t j = 0; j < n; j++)
      NAME(normalise)(wide + j * net->head.out, net->after ? net->after + last[i + j] * net->head.out : 0, V, temperature,
                      work, log_probs + (i + j) * V);
  }
  return -1;
}
