/* A transformer's training step for registers of LANES numbers, over a trie of prefixes: kernel.c includes this for each
   width.

   Forward: strips of nodes in preorder go through all blocks together, so that a node finds the pairs of its ancestors
   computed; what the gradient needs is kept. Backward: the strips in reverse order, so that what the descendants give to a
   node's key and value is complete when it is needed. All sums have one order, which no width of register changes. */

typedef struct {
  float *normal1, *in1, *qkv, *taken, *normal2, *in2, *active, *slope, *inverse1, *inverse2, *dpairs, *weights;
  matrix pack_qkv, pack_mix, pack_up, pack_down;
} NAME(kept);

typedef struct {
  const trained *net;
  const trie *tree;
  int64_t T, out; /* out: columns of the packed head */
  int64_t *places, *ancestors;
  arena floats;
  float *normal, *features, *inverse, *dfeatures, *x, *narrow, *wide, *dwide;
  matrix head;
} NAME(work);

/* Claims a weight [out, in] and its bias packed in panels, the last panel filled up with zeros. */
static TARGET matrix NAME(packed)(arena *to_claim, const layer *from, int64_t out, int64_t in, int64_t apart, int write) {
  int64_t columns = (out + PANEL - 1) / PANEL * PANEL;
  float *to = claim(to_claim, columns * in), *bias = claim(to_claim, columns);
  for (int64_t j = 0; write && j < columns; j++) {
    bias[j] = j < out ? from->bias.at[j] : 0;
    for (int64_t i = 0; i < in; i++)
      to[(j / PANEL * in + i) * PANEL + j % PANEL] = j < out ? from->weight.at[j * apart + i] : 0;
  }
  return (matrix){columns, to, bias};
}

/* The parts of the scratch for a trie of `nodes` nodes whose depths, each plus 1, sum to `ancestors`. */
static TARGET void NAME(lay_out)(NAME(work) *w, NAME(kept) *kept, const trained *net, int64_t T, int64_t nodes,
                                 int64_t ancestors, void *scratch, int write) {
  int64_t d = net->width, N = nodes, widest = 4 * d;
  w->net = net;
  w->T = T;
  w->places = scratch;
  w->ancestors = scratch ? w->places + N : 0;
  w->floats = (arena){scratch ? (float *)(w->ancestors + STRIP * T) : 0, 0};
  w->out = (net->vocabulary + PANEL - 1) / PANEL * PANEL;
  if (w->out > widest) widest = w->out;
  w->normal = claim(&w->floats, N * d);
  w->features = claim(&w->floats, N * d);
  w->dfeatures = claim(&w->floats, N * d);
  w->inverse = claim(&w->floats, N);
  w->x = claim(&w->floats, STRIP * d);
  w->narrow = claim(&w->floats, STRIP * d);
  w->wide = claim(&w->floats, STRIP * widest);
  w->dwide = claim(&w->floats, STRIP * widest);
  w->head = NAME(packed)(&w->floats, &net->head, net->vocabulary, d, d + net->after, write);
  for (int64_t l = 0; l < net->layers; l++) {
    NAME(kept) k;
    float **narrow[] = {&k.normal1, &k.in1, &k.taken, &k.normal2, &k.in2}, **wide[] = {&k.active, &k.slope};
    for (int i = 0; i < 5; i++) *narrow[i] = claim(&w->floats, N * d);
    for (int i = 0; i < 2; i++) *wide[i] = claim(&w->floats, N * 4 * d);
    k.qkv = claim(&w->floats, N * 3 * d);
    k.dpairs = claim(&w->floats, N * 2 * d);
    k.inverse1 = claim(&w->floats, N);
    k.inverse2 = claim(&w->floats, N);
    k.weights = claim(&w->floats, ancestors * net->heads + 8);
    const trained_block *b = net->blocks + l;
    k.pack_qkv = NAME(packed)(&w->floats, &b->qkv, 3 * d, d, d, write);
    k.pack_mix = NAME(packed)(&w->floats, &b->mix, d, d, d, write);
    k.pack_up = NAME(packed)(&w->floats, &b->up, 4 * d, d, d, write);
    k.pack_down = NAME(packed)(&w->floats, &b->down, d, 4 * d, 4 * d, write);
    if (kept) kept[l] = k;
  }
}

/* What reaches the input of a product: da [m, k] = dc [m, out] times the weight [out, k]; rows of dc lie `stride` apart. */
static TARGET void NAME(back)(const float *dc, int64_t stride, int64_t m, int64_t out, const float *weight, int64_t apart,
                              int64_t k, float *da) {
  for (int64_t j = 0; j < k; j += PANEL) NAME(rows)(dc, stride, 1, m, out, weight + j, apart, 0, da + j, k, SET);
}

/* What reaches the weight of a product, from its input a [m, k] and dc [m, out]: added to its gradient. */
static TARGET void NAME(collect_weight)(const float *dc, int64_t stride, int64_t m, int64_t out, const float *a, int64_t k,
                                        const layer *to, int64_t apart) {
  for (int64_t j = 0; j < k; j += PANEL)
    NAME(rows)(dc, 1, stride, out, m, a + j, k, 0, to->weight.gradient + j, apart, ADD);
}

/* What reaches the weight and the bias of a product. */
static TARGET void NAME(collect)(const float *dc, int64_t stride, int64_t m, int64_t out, const float *a, int64_t k,
                                 const layer *to, int64_t apart) {
  NAME(collect_weight)(dc, stride, m, out, a, k, to, apart);
  float *bias = to->bias.gradient;
  for (int64_t i = 0; i < m; i++)
    for (int64_t o = 0; o < out; o++) bias[o] += dc[i * stride + o];
}

/* The gradient behind a layer norm, dy [d], added before it to dx [d] and to the gradients of its weight and bias. */
INLINE void NAME(back_norm)(const float *dy, const float *normal, float inverse, const layer *by, int64_t d, float *dx) {
  eight sum = {0}, along = {0};
  for (int64_t i = 0; i < d; i += 8) {
    eight y = AT8(dy + i), z = AT8(normal + i), g = y * AT8(by->weight.at + i);
    PUT8(by->weight.gradient + i) = NAME(fma8)(y, z, AT8(by->weight.gradient + i));
    PUT8(by->bias.gradient + i) += y;
    sum += g;
    along = NAME(fma8)(g, z, along);
  }
  float mean = NAME(total)(sum) / (float)d, slope = NAME(total)(along) / (float)d;
  for (int64_t i = 0; i < d; i += 8) {
    eight z = AT8(normal + i), g = AT8(dy + i) * AT8(by->weight.at + i);
    PUT8(dx + i) += (g - mean - z * slope) * inverse;
  }
}

/* GELU of x [n] in place, and its derivative. */
static TARGET void NAME(activate)(const float *x, int64_t n, float *active, float *slope) {
  for (int64_t i = 0; i < n; i += LANES) {
    vec at = *(const loose *)(x + i), phi = NAME(phi)(at), density = NAME(exp)(at * at * -0.5f) * 0.3989422804014327f;
    *(loose *)(active + i) = at * phi;
    *(loose *)(slope + i) = NAME(fma)(at, density, phi);
  }
}

/* The rows of a node and of its ancestors, the root first: depth + 1 of them. */
ALWAYS void NAME(trace)(const NAME(work) *w, int64_t begin, int64_t n) {
  for (int64_t j = 0; j < n; j++)
    for (int64_t s = w->tree->depth[begin + j], row = begin + j; s >= 0; s--, row = w->tree->parent[row])
      w->ancestors[j * w->T + s] = row;
}

static TARGET void NAME(forward)(const NAME(work) *w, const NAME(kept) *kept, int64_t begin, int64_t n) {
  const trained *net = w->net;
  const trie *tree = w->tree;
  int64_t d = net->width;
  for (int64_t j = 0; j < n; j++) {
    const float *token = net->token.at + tree->last[begin + j] * d, *place = net->position.at + tree->depth[begin + j] * d;
    for (int64_t f = 0; f < d; f += 8) PUT8(w->x + j * d + f) = AT8(token + f) + AT8(place + f);
  }
  NAME(trace)(w, begin, n);
  for (int64_t l = 0; l < net->layers; l++) {
    const NAME(kept) *k = kept + l;
    const trained_block *b = net->blocks + l;
    for (int64_t j = 0; j < n; j++)
      k->inverse1[begin + j] = NAME(norm)(w->x + j * d, b->norm1.weight.at, b->norm1.bias.at, d,
                                          k->normal1 + (begin + j) * d, k->in1 + (begin + j) * d);
    NAME(multiply)(k->in1 + begin * d, n, d, &k->pack_qkv, k->qkv + begin * 3 * d, 3 * d);
    for (int64_t j = 0; j < n; j++)
      NAME(attend)(k->qkv + (begin + j) * 3 * d, k->qkv + d, 3 * d, w->ancestors + j * w->T, tree->depth[begin + j] + 1, d,
                   net->heads, k->weights + w->places[begin + j], k->taken + (begin + j) * d);
    NAME(multiply_add)(k->taken + begin * d, n, d, &k->pack_mix, w->x, d);
    for (int64_t j = 0; j < n; j++)
      k->inverse2[begin + j] = NAME(norm)(w->x + j * d, b->norm2.weight.at, b->norm2.bias.at, d,
                                          k->normal2 + (begin + j) * d, k->in2 + (begin + j) * d);
    NAME(multiply)(k->in2 + begin * d, n, d, &k->pack_up, w->wide, 4 * d);
    NAME(activate)(w->wide, n * 4 * d, k->active + begin * 4 * d, k->slope + begin * 4 * d);
    NAME(multiply_add)(k->active + begin * 4 * d, n, 4 * d, &k->pack_down, w->x, d);
  }
  for (int64_t j = 0; j < n; j++)
    w->inverse[begin + j] = NAME(norm)(w->x + j * d, net->norm.weight.at, net->norm.bias.at, d,
                                       w->normal + (begin + j) * d, w->features + (begin + j) * d);
}

/* The loss of one node's edges; its logits [out], of which V are of tokens, become the loss's derivative by them. */
INLINE double NAME(node_loss)(const trie *tree, int64_t node, int64_t V, int64_t out, double temperature, float *logits) {
  float by = (float)(1 / temperature), most = -INFINITY;
  double mass = 0, loss = 0;
  for (int64_t v = 0; v < V; v++) {
    logits[v] *= by;
    most = logits[v] > most ? logits[v] : most;
  }
  eight sum = {0};
  for (int64_t e = tree->first[node]; e >= 0; e = tree->next[e]) {
    mass += tree->weight[e];
    loss -= tree->weight[e] * (logits[tree->token[e]] - most);
  }
  for (int64_t v = V; v < out; v++) logits[v] = -INFINITY;
  for (int64_t v = 0; v < out; v += 8) {
    PUT8(logits + v) = NAME(exp8)(AT8(logits + v) - most);
    sum += AT8(logits + v);
  }
  float total = NAME(total)(sum), share = (float)mass / total * by;
  loss += mass * portable_log(total);
  for (int64_t v = 0; v < V; v++) logits[v] *= share;
  for (int64_t v = V; v < out; v++) logits[v] = 0;
  for (int64_t e = tree->first[node]; e >= 0; e = tree->next[e]) logits[tree->token[e]] -= (float)tree->weight[e] * by;
  return loss;
}

/* The loss of a strip, and what reaches its features and the head. */
static TARGET double NAME(strip_loss)(const NAME(work) *w, int64_t begin, int64_t n, double temperature) {
  const trained *net = w->net;
  int64_t d = net->width, V = net->vocabulary, row = d + net->after;
  double loss = 0;
  NAME(multiply)(w->features + begin * d, n, d, &w->head, w->wide, w->out);
  for (int64_t j = 0; j < n; j++) {
    float *logits = w->wide + j * w->out;
    int64_t place = d + w->tree->last[begin + j]; /* of the last token's column in the head, where it has such columns */
    for (int64_t v = 0; net->after && v < V; v++) logits[v] += net->head.weight.at[v * row + place];
    loss += NAME(node_loss)(w->tree, begin + j, V, w->out, temperature, logits);
    for (int64_t v = 0; net->after && v < V; v++) net->head.weight.gradient[v * row + place] += logits[v];
  }
  NAME(collect)(w->wide, w->out, n, V, w->features + begin * d, d, &net->head, row);
  NAME(back)(w->wide, w->out, n, V, net->head.weight.at, row, d, w->dfeatures + begin * d);
  return loss;
}

/* What reaches the query of a node, dqkv [3 d], and the pairs of the node and of its ancestors. */
INLINE void NAME(back_attend)(const NAME(work) *w, const NAME(kept) *k, int64_t node, const int64_t *rows, const float *dtaken,
                              float *dp, float *dqkv) {
  int64_t d = w->net->width, heads = w->net->heads, features = d / heads, t = w->tree->depth[node] + 1;
  const float *weights = k->weights + w->places[node], *query = k->qkv + node * 3 * d;
  float by = 1 / sqrtf((float)features);
  for (int64_t s = 0; s < t; s++)
    for (int64_t h = 0; h < heads; h++)
      dp[h * t + s] = NAME(dot)(dtaken + h * features, k->qkv + rows[s] * 3 * d + 2 * d + h * features, features);
  for (int64_t h = 0; h < heads; h++) {
    float inner = 0;
    for (int64_t s = 0; s < t; s++) inner += weights[h * t + s] * dp[h * t + s];
    for (int64_t s = 0; s < t; s++) dp[h * t + s] = weights[h * t + s] * (dp[h * t + s] - inner) * by;
  }
  for (int64_t f = 0; f < d; f += 8) PUT8(dqkv + f) = (eight){0};
  for (int64_t s = 0; s < t; s++) {
    float *dpair = k->dpairs + rows[s] * 2 * d;
    const float *key = k->qkv + rows[s] * 3 * d + d;
    for (int64_t h = 0; h < heads; h++) {
      eight slope = ALL(eight, dp[h * t + s]), share = ALL(eight, weights[h * t + s]);
      for (int64_t f = h * features; f < (h + 1) * features; f += 8) {
        PUT8(dqkv + f) = NAME(fma8)(slope, AT8(key + f), AT8(dqkv + f));
        PUT8(dpair + f) = NAME(fma8)(slope, AT8(query + f), AT8(dpair + f));
        PUT8(dpair + d + f) = NAME(fma8)(share, AT8(dtaken + f), AT8(dpair + d + f));
      }
    }
  }
}

static TARGET void NAME(backward)(const NAME(work) *w, const NAME(kept) *kept, int64_t begin, int64_t n) {
  const trained *net = w->net;
  const trie *tree = w->tree;
  int64_t d = net->width;
  float *dx = w->x, *narrow = w->narrow, *wide = w->dwide, *scores = w->wide;
  for (int64_t j = 0; j < n; j++) {
    for (int64_t f = 0; f < d; f += 8) PUT8(dx + j * d + f) = (eight){0};
    NAME(back_norm)(w->dfeatures + (begin + j) * d, w->normal + (begin + j) * d, w->inverse[begin + j], &net->norm, d,
                    dx + j * d);
  }
  NAME(trace)(w, begin, n);
  for (int64_t l = net->layers - 1; l >= 0; l--) {
    const NAME(kept) *k = kept + l;
    const trained_block *b = net->blocks + l;
    NAME(collect)(dx, d, n, d, k->active + begin * 4 * d, 4 * d, &b->down, 4 * d);
    NAME(back)(dx, d, n, d, b->down.weight.at, 4 * d, 4 * d, wide);
    for (int64_t i = 0; i < n * 4 * d; i += 8) PUT8(wide + i) *= AT8(k->slope + begin * 4 * d + i);
    NAME(collect)(wide, 4 * d, n, 4 * d, k->in2 + begin * d, d, &b->up, d);
    NAME(back)(wide, 4 * d, n, 4 * d, b->up.weight.at, d, d, narrow);
    for (int64_t j = 0; j < n; j++)
      NAME(back_norm)(narrow + j * d, k->normal2 + (begin + j) * d, k->inverse2[begin + j], &b->norm2, d, dx + j * d);
    NAME(collect)(dx, d, n, d, k->taken + begin * d, d, &b->mix, d);
    NAME(back)(dx, d, n, d, b->mix.weight.at, d, d, narrow);
    for (int64_t j = n - 1; j >= 0; j--)
      NAME(back_attend)(w, k, begin + j, w->ancestors + j * w->T, narrow + j * d, scores, wide + j * 3 * d);
    for (int64_t j = 0; j < n; j++) memcpy(wide + j * 3 * d + d, k->dpairs + (begin + j) * 2 * d, 2 * d * sizeof(float));
    NAME(collect)(wide, 3 * d, n, 3 * d, k->in1 + begin * d, d, &b->qkv, d);
    NAME(back)(wide, 3 * d, n, 3 * d, b->qkv.weight.at, d, d, narrow);
    for (int64_t j = 0; j < n; j++)
      NAME(back_norm)(narrow + j * d, k->normal1 + (begin + j) * d, k->inverse1[begin + j], &b->norm1, d, dx + j * d);
  }
  for (int64_t j = 0; j < n; j++) {
    float *token = net->token.gradient + tree->last[begin + j] * d, *place = net->position.gradient + tree->depth[begin + j] * d;
    for (int64_t f = 0; f < d; f += 8) {
      PUT8(token + f) += AT8(dx + j * d + f);
      PUT8(place + f) += AT8(dx + j * d + f);
    }
  }
}

static TARGET void NAME(prepare)(NAME(work) *w, NAME(kept) *kept, const trained *net, const trie *tree, int64_t T,
                                 void *scratch, int write) {
  int64_t ancestors = 0;
  for (int64_t i = 0; i < tree->nodes; i++) ancestors += tree->depth[i] + 1;
  NAME(lay_out)(w, kept, net, T, tree->nodes, ancestors, scratch, write);
  w->tree = tree;
  for (int64_t i = 0, place = 0; write && i < tree->nodes; i++, place += (tree->depth[i - 1] + 1) * net->heads)
    w->places[i] = place;
}

#define STRIPS(from, n) \
  for (int64_t from = 0, n; from < nodes && (n = nodes - from < STRIP ? nodes - from : STRIP); from += STRIP)
#define STRIPS_BACK(from, n) \
  for (int64_t from = (nodes - 1) / STRIP * STRIP, n; from >= 0 && (n = nodes - from < STRIP ? nodes - from : STRIP); from -= STRIP)

/* Bytes of scratch for a trie. */
TARGET int64_t NAME(banel_train_bytes)(const trained *net, const trie *tree, int64_t T) {
  NAME(work) w;
  int64_t ancestors = 0;
  for (int64_t i = 0; i < tree->nodes; i++) ancestors += tree->depth[i] + 1;
  NAME(lay_out)(&w, 0, net, T, tree->nodes, ancestors, 0, 0);
  return (tree->nodes + STRIP * T) * (int64_t)sizeof(int64_t) + w.floats.used * (int64_t)sizeof(float);
}

/* The mean weighted negative log-likelihood of a trie whose weights are divided by n; its gradient is added to the
   parameters' gradients. */
TARGET double NAME(banel_likelihood)(const trained *net, const trie *tree, int64_t T, double temperature, void *scratch) {
  NAME(work) w;
  NAME(kept) kept[MOST_LAYERS];
  int64_t nodes = tree->nodes;
  double loss = 0;
  NAME(prepare)(&w, kept, net, tree, T, scratch, 1);
  for (int64_t l = 0; l < net->layers; l++) memset(kept[l].dpairs, 0, nodes * 2 * net->width * sizeof(float));
  STRIPS(i, n) {
    NAME(forward)(&w, kept, i, n);
    loss += NAME(strip_loss)(&w, i, n, temperature);
  }
  STRIPS_BACK(i, n) NAME(backward)(&w, kept, i, n);
  return loss;
}

/* The input of the head, features [nodes, d], of every node; the scratch keeps what banel_backward needs. */
TARGET void NAME(banel_features)(const trained *net, const trie *tree, int64_t T, void *scratch, float *features) {
  NAME(work) w;
  NAME(kept) kept[MOST_LAYERS];
  int64_t nodes = tree->nodes;
  NAME(prepare)(&w, kept, net, tree, T, scratch, 1);
  STRIPS(i, n) NAME(forward)(&w, kept, i, n);
  memcpy(features, w.features, nodes * net->width * sizeof(float));
}

/* From the derivative by the features [nodes, d] to that by all parameters but the head's, which is added. */
TARGET void NAME(banel_backward)(const trained *net, const trie *tree, int64_t T, void *scratch, const float *dfeatures) {
  NAME(work) w;
  NAME(kept) kept[MOST_LAYERS];
  int64_t nodes = tree->nodes;
  NAME(prepare)(&w, kept, net, tree, T, scratch, 0);
  memcpy(w.dfeatures, dfeatures, nodes * net->width * sizeof(float));
  for (int64_t l = 0; l < net->layers; l++) memset(kept[l].dpairs, 0, nodes * 2 * net->width * sizeof(float));
  STRIPS_BACK(i, n) NAME(backward)(&w, kept, i, n);
}
#undef STRIPS
#undef STRIPS_BACK
