/* A gated recurrent network for registers of LANES numbers: one step for many prefixes, and a training step over a trie of
   prefixes. kernel.c includes this for each width.

   Prefixes of one length are computed together, in strips of rows. What a token at a position gives to the first layer is
   computed once for all prefixes that end with it. Source: Cho et al. 2014, as torch.nn.GRU writes it. */

/* The next state [d] from the products of the input and of the state before, [3 d] each: reset gate, update gate, new state. */
INLINE void NAME(gates)(const float *in, const float *state, const float *before, int64_t d, float *kept, float *after) {
  for (int64_t f = 0; f < d; f += LANES) {
    vec reset = NAME(sigmoid)(*(const loose *)(in + f) + *(const loose *)(state + f));
    vec update = NAME(sigmoid)(*(const loose *)(in + d + f) + *(const loose *)(state + d + f));
    vec fresh = NAME(tanh)(NAME(fma)(reset, *(const loose *)(state + 2 * d + f), *(const loose *)(in + 2 * d + f)));
    *(loose *)(after + f) = NAME(fma)(update, *(const loose *)(before + f) - fresh, fresh);
    if (kept) {
      *(loose *)(kept + f) = reset;
      *(loose *)(kept + d + f) = update;
      *(loose *)(kept + 2 * d + f) = fresh;
      *(loose *)(kept + 3 * d + f) = *(const loose *)(state + 2 * d + f);
    }
  }
}

INLINE void NAME(placed)(const float *token, const float *place, int64_t d, float *x) {
  for (int64_t f = 0; f < d; f += 8) PUT8(x + f) = AT8(token + f) + AT8(place + f);
}

/* Next-token log-probabilities [m, V] of m prefixes, from their last tokens `last` [m], which stand before `position`: -1, or
   where in `last` there is no token (nothing is computed then).

   Prefix i grew from row parents[i] of `before`, [layers, rows, d]; its state is row i of `after`, [layers, m, d]. `inputs`
   [r], r <= V + 1, are the tokens that enter, and taken [m] says which of them each prefix takes. */
TARGET int64_t NAME(banel_gru_step)(const recurrent *net, const int64_t *last, int64_t position, int64_t m,
                                    const int64_t *parents, const float *before, int64_t rows, float *after,
                                    const int64_t *inputs, int64_t r, const int64_t *taken, double temperature,
                                    double *log_probs) {
  int64_t d = net->width, V = net->vocabulary;
  double *work = net->scratch;
  float *entered = (float *)(work + V), *x = entered + (V + 1) * 3 * d, *old = x + (V + 1) * d, *in = old + STRIP * d;
  float *state = in + STRIP * 3 * d, *logits = state + STRIP * 3 * d;
  for (int64_t i = 0; i < m; i++)
    if (last[i] < 0 || last[i] > V) return i;
  for (int64_t i = 0; i < r; i++)
    NAME(placed)(net->token + inputs[i] * d, net->position + position * d, d, x + i * d);
  NAME(multiply)(x, r, d, &net->cells->in, entered, 3 * d);
  for (int64_t i = 0; i < m; i += STRIP) {
    int64_t n = m - i < STRIP ? m - i : STRIP;
    for (int64_t l = 0; l < net->layers; l++) {
      const cell *c = net->cells + l;
      float *grown = after + (l * m + i) * d;
      for (int64_t j = 0; j < n; j++) memcpy(old + j * d, before + (l * rows + parents[i + j]) * d, d * sizeof(float));
      NAME(multiply)(old, n, d, &c->state, state, 3 * d);
      if (l) NAME(multiply)(grown - m * d, n, d, &c->in, in, 3 * d);
      for (int64_t j = 0; j < n; j++)
        NAME(gates)(l ? in + j * 3 * d : entered + taken[i + j] * 3 * d, state + j * 3 * d, old + j * d, d, 0, grown + j * d);
    }
    NAME(multiply)(after + ((net->layers - 1) * m + i) * d, n, d, &net->head, logits, net->head.out);
    for (int64_t j = 0; j < n; j++)
      NAME(normalise)(logits + j * net->head.out, 0, V, temperature, work, log_probs + (i + j) * V);
  }
  return -1;
}

typedef struct {
  float *kept, *state, *dstate; /* [nodes, 4 d], [nodes, d], [nodes, d] */
  matrix pack_in, pack_state;
} NAME(kept_cell);

typedef struct {
  const trained_recurrent *net;
  const trie *tree;
  int64_t out, *order, *level, *inputs, *taken; /* nodes by depth; where each depth begins; tokens of a level; of each node which */
  arena floats;
  float *entered, *dentered, *x, *dx, *old, *dold, *in, *product, *dproduct, *logits;
  matrix head;
} NAME(gru_work);

/* The parts of the scratch. What belongs to a node stands at its place in `order`, so that a level lies together. */
static TARGET void NAME(lay_out_gru)(NAME(gru_work) *w, NAME(kept_cell) *kept, const trained_recurrent *net,
                                     const trie *tree, int64_t T, void *scratch, int write) {
  int64_t d = net->width, V = net->vocabulary, N = tree->nodes;
  w->net = net;
  w->tree = tree;
  w->out = (V + PANEL - 1) / PANEL * PANEL;
  w->order = scratch;
  w->level = scratch ? w->order + N : 0;
  w->inputs = scratch ? w->level + T + 1 : 0;
  w->taken = scratch ? w->inputs + V + 1 : 0;
  w->floats = (arena){scratch ? (float *)(w->taken + N) : 0, 0};
  float **inputs[] = {&w->entered, &w->dentered}, **narrow[] = {&w->old, &w->dold};
  float **wide[] = {&w->in, &w->product, &w->dproduct};
  for (int i = 0; i < 2; i++) *inputs[i] = claim(&w->floats, (V + 1) * 3 * d);
  w->x = claim(&w->floats, (V + 1 > STRIP ? V + 1 : STRIP) * d);
  w->dx = claim(&w->floats, (V + 1 > STRIP ? V + 1 : STRIP) * d);
  for (int i = 0; i < 2; i++) *narrow[i] = claim(&w->floats, STRIP * d);
  for (int i = 0; i < 3; i++) *wide[i] = claim(&w->floats, STRIP * 3 * d);
  w->logits = claim(&w->floats, STRIP * w->out);
  w->head = NAME(packed)(&w->floats, &net->head, V, d, d, write);
  for (int64_t l = 0; l < net->layers; l++) {
    NAME(kept_cell) k;
    k.kept = claim(&w->floats, N * 4 * d);
    k.state = claim(&w->floats, N * d);
    k.dstate = claim(&w->floats, N * d);
    k.pack_in = NAME(packed)(&w->floats, &net->cells[l].in, 3 * d, d, d, write);
    k.pack_state = NAME(packed)(&w->floats, &net->cells[l].state, 3 * d, d, d, write);
    if (kept) kept[l] = k;
  }
}

/* The nodes by depth, the order within a depth as in the trie. A node's place in it is kept where its newest edge was. */
ALWAYS void NAME(by_depth)(const trie *tree, int64_t T, int64_t *order, int64_t *level) {
  for (int64_t t = 0; t <= T; t++) level[t] = 0;
  for (int64_t i = 0; i < tree->nodes; i++) level[tree->depth[i] + 1 < T ? tree->depth[i] + 1 : T]++;
  for (int64_t t = 1; t <= T; t++) level[t] += level[t - 1];
  for (int64_t i = 0; i < tree->nodes; i++) order[level[tree->depth[i]]++] = i;
  for (int64_t t = T; t > 0; t--) level[t] = level[t - 1]; /* each was moved to its own end */
  level[0] = 0;
  for (int64_t i = 0; i < tree->nodes; i++) tree->newest[order[i]] = i;
}

/* The tokens that enter at a level: r of them in `inputs`; `taken` says which each node takes. */
ALWAYS int64_t NAME(entering)(const NAME(gru_work) *w, int64_t begin, int64_t end) {
  int64_t V = w->net->vocabulary, r = 0;
  if (end - begin <= V) {
    for (int64_t i = begin; i < end; i++) {
      w->inputs[r] = w->tree->last[w->order[i]];
      w->taken[i] = r++;
    }
    return r;
  }
  for (int64_t v = 0; v <= V; v++) w->inputs[v] = v;
  for (int64_t i = begin; i < end; i++) w->taken[i] = w->tree->last[w->order[i]];
  return V + 1;
}

static TARGET void NAME(gru_forward)(const NAME(gru_work) *w, const NAME(kept_cell) *kept, int64_t depth) {
  const trained_recurrent *net = w->net;
  int64_t d = net->width, begin = w->level[depth], end = w->level[depth + 1], r = NAME(entering)(w, begin, end);
  for (int64_t i = 0; i < r; i++) NAME(placed)(net->token.at + w->inputs[i] * d, net->position.at + depth * d, d, w->x + i * d);
  NAME(multiply)(w->x, r, d, &kept->pack_in, w->entered, 3 * d);
  for (int64_t i = begin; i < end; i += STRIP) {
    int64_t n = end - i < STRIP ? end - i : STRIP;
    for (int64_t l = 0; l < net->layers; l++) {
      const NAME(kept_cell) *k = kept + l;
      for (int64_t j = 0; j < n; j++) {
        int64_t parent = depth ? w->tree->newest[w->tree->parent[w->order[i + j]]] : 0;
        for (int64_t f = 0; f < d; f += 8) PUT8(w->old + j * d + f) = depth ? (eight)AT8(k->state + parent * d + f) : (eight){0};
      }
      NAME(multiply)(w->old, n, d, &k->pack_state, w->product, 3 * d);
      if (l) NAME(multiply)(k[-1].state + i * d, n, d, &k->pack_in, w->in, 3 * d);
      for (int64_t j = 0; j < n; j++)
        NAME(gates)(l ? w->in + j * 3 * d : w->entered + w->taken[i + j] * 3 * d, w->product + j * 3 * d, w->old + j * d, d,
                    k->kept + (i + j) * 4 * d, k->state + (i + j) * d);
    }
  }
}

/* From what reaches a state, dafter [d], to what reaches both products, [3 d] each, and directly the state before, [d]. */
INLINE void NAME(back_gates)(const float *kept, const float *before, const float *dafter, int64_t d, float *din, float *dstate,
                             float *dbefore) {
  for (int64_t f = 0; f < d; f += LANES) {
    vec reset = *(const loose *)(kept + f), update = *(const loose *)(kept + d + f), fresh = *(const loose *)(kept + 2 * d + f);
    vec slope = *(const loose *)(dafter + f), dfresh = slope * (1 - update) * (1 - fresh * fresh);
    vec dreset = dfresh * *(const loose *)(kept + 3 * d + f) * reset * (1 - reset);
    vec dupdate = slope * (*(const loose *)(before + f) - fresh) * update * (1 - update);
    *(loose *)(din + f) = *(loose *)(dstate + f) = dreset;
    *(loose *)(din + d + f) = *(loose *)(dstate + d + f) = dupdate;
    *(loose *)(din + 2 * d + f) = dfresh;
    *(loose *)(dstate + 2 * d + f) = dfresh * reset;
    *(loose *)(dbefore + f) = slope * update;
  }
}

/* As collect, but each strip's part of the bias is summed by itself: without norms a bias gets most of the gradient, and one
   chain over thousands of rows would be several times less accurate. */
static TARGET void NAME(collect_strip)(const float *dc, int64_t stride, int64_t m, int64_t out, const float *a, int64_t d,
                                       const layer *to) {
  NAME(collect_weight)(dc, stride, m, out, a, d, to, d);
  float *bias = to->bias.gradient;
  int64_t o = 0;
  for (; o + 8 <= out; o += 8) {
    eight sum = {0};
    for (int64_t i = 0; i < m; i++) sum += AT8(dc + i * stride + o);
    PUT8(bias + o) += sum;
  }
  for (; o < out; o++) {
    float sum = 0;
    for (int64_t i = 0; i < m; i++) sum += dc[i * stride + o];
    bias[o] += sum;
  }
}

static TARGET void NAME(gru_backward)(const NAME(gru_work) *w, const NAME(kept_cell) *kept, int64_t depth) {
  const trained_recurrent *net = w->net;
  int64_t d = net->width, begin = w->level[depth], end = w->level[depth + 1], r = NAME(entering)(w, begin, end);
  memset(w->dentered, 0, r * 3 * d * sizeof(float));
  for (int64_t i = begin; i < end; i += STRIP) {
    int64_t n = end - i < STRIP ? end - i : STRIP;
    for (int64_t l = net->layers - 1; l >= 0; l--) {
      const NAME(kept_cell) *k = kept + l;
      const trained_cell *c = net->cells + l;
      for (int64_t j = 0; j < n; j++) {
        int64_t parent = depth ? w->tree->newest[w->tree->parent[w->order[i + j]]] : 0;
        for (int64_t f = 0; f < d; f += 8) PUT8(w->old + j * d + f) = depth ? (eight)AT8(k->state + parent * d + f) : (eight){0};
        NAME(back_gates)(k->kept + (i + j) * 4 * d, w->old + j * d, k->dstate + (i + j) * d, d, w->in + j * 3 * d,
                         w->dproduct + j * 3 * d, w->dold + j * d);
      }
      NAME(collect_strip)(w->dproduct, 3 * d, n, 3 * d, w->old, d, &c->state);
      if (depth) {
        NAME(back)(w->dproduct, 3 * d, n, 3 * d, c->state.weight.at, d, d, w->dx);
        for (int64_t j = 0; j < n; j++) {
          float *to = k->dstate + w->tree->newest[w->tree->parent[w->order[i + j]]] * d;
          for (int64_t f = 0; f < d; f += 8) PUT8(to + f) += AT8(w->dold + j * d + f) + AT8(w->dx + j * d + f);
        }
      }
      if (l) {
        NAME(collect_strip)(w->in, 3 * d, n, 3 * d, k[-1].state + i * d, d, &c->in);
        NAME(back)(w->in, 3 * d, n, 3 * d, c->in.weight.at, d, d, w->dx);
        for (int64_t f = 0; f < n * d; f += 8) PUT8(k[-1].dstate + i * d + f) += AT8(w->dx + f);
      } else {
        for (int64_t j = 0; j < n; j++)
          for (int64_t f = 0; f < 3 * d; f += 8) PUT8(w->dentered + w->taken[i + j] * 3 * d + f) += AT8(w->in + j * 3 * d + f);
      }
    }
  }
  for (int64_t i = 0; i < r; i++) NAME(placed)(net->token.at + w->inputs[i] * d, net->position.at + depth * d, d, w->x + i * d);
  NAME(collect_strip)(w->dentered, 3 * d, r, 3 * d, w->x, d, &net->cells->in);
  NAME(back)(w->dentered, 3 * d, r, 3 * d, net->cells->in.weight.at, d, d, w->dx);
  for (int64_t i = 0; i < r; i++)
    for (int64_t f = 0; f < d; f += 8) {
      PUT8(net->token.gradient + w->inputs[i] * d + f) += AT8(w->dx + i * d + f);
      PUT8(net->position.gradient + depth * d + f) += AT8(w->dx + i * d + f);
    }
}

/* The loss of all nodes; the gradient of the head is added, and that of each node's feature goes to its last state. */
static TARGET double NAME(gru_loss)(const NAME(gru_work) *w, const NAME(kept_cell) *last, double temperature) {
  const trained_recurrent *net = w->net;
  int64_t d = net->width, V = net->vocabulary;
  double loss = 0;
  for (int64_t i = 0; i < w->tree->nodes; i += STRIP) {
    int64_t n = w->tree->nodes - i < STRIP ? w->tree->nodes - i : STRIP;
    NAME(multiply)(last->state + i * d, n, d, &w->head, w->logits, w->out);
    for (int64_t j = 0; j < n; j++)
      loss += NAME(node_loss)(w->tree, w->order[i + j], V, w->out, temperature, w->logits + j * w->out);
    NAME(collect_strip)(w->logits, w->out, n, V, last->state + i * d, d, &net->head);
    NAME(back)(w->logits, w->out, n, V, net->head.weight.at, d, d, last->dstate + i * d);
  }
  return loss;
}

TARGET int64_t NAME(banel_gru_train_bytes)(const trained_recurrent *net, const trie *tree, int64_t T) {
  NAME(gru_work) w;
  NAME(lay_out_gru)(&w, 0, net, tree, T, 0, 0);
  int64_t whole = 2 * tree->nodes + T + 1 + net->vocabulary + 1;
  return whole * (int64_t)sizeof(int64_t) + w.floats.used * (int64_t)sizeof(float);
}

static TARGET void NAME(gru_through)(const NAME(gru_work) *w, NAME(kept_cell) *kept, int64_t T) {
  for (int64_t depth = 0; depth < T && w->level[depth] < w->tree->nodes; depth++) NAME(gru_forward)(w, kept, depth);
}

static TARGET void NAME(gru_back_through)(const NAME(gru_work) *w, NAME(kept_cell) *kept, int64_t T) {
  for (int64_t depth = T - 1; depth >= 0; depth--)
    if (w->level[depth] < w->level[depth + 1]) NAME(gru_backward)(w, kept, depth);
}

/* As banel_likelihood, for a gated recurrent network. */
TARGET double NAME(banel_gru_likelihood)(const trained_recurrent *net, const trie *tree, int64_t T, double temperature,
                                         void *scratch) {
  NAME(gru_work) w;
  NAME(kept_cell) kept[MOST_LAYERS];
  NAME(lay_out_gru)(&w, kept, net, tree, T, scratch, 1);
  NAME(by_depth)(tree, T, w.order, w.level);
  NAME(gru_through)(&w, kept, T);
  for (int64_t l = 0; l < net->layers; l++) memset(kept[l].dstate, 0, tree->nodes * net->width * sizeof(float));
  double loss = NAME(gru_loss)(&w, kept + net->layers - 1, temperature);
  NAME(gru_back_through)(&w, kept, T);
  return loss;
}

/* As banel_features and banel_backward. */
TARGET void NAME(banel_gru_features)(const trained_recurrent *net, const trie *tree, int64_t T, void *scratch, float *features) {
  NAME(gru_work) w;
  NAME(kept_cell) kept[MOST_LAYERS];
  NAME(lay_out_gru)(&w, kept, net, tree, T, scratch, 1);
  NAME(by_depth)(tree, T, w.order, w.level);
  NAME(gru_through)(&w, kept, T);
  for (int64_t i = 0; i < tree->nodes; i++)
    memcpy(features + w.order[i] * net->width, kept[net->layers - 1].state + i * net->width, net->width * sizeof(float));
}

TARGET void NAME(banel_gru_backward)(const trained_recurrent *net, const trie *tree, int64_t T, void *scratch,
                                     const float *dfeatures) {
  NAME(gru_work) w;
  NAME(kept_cell) kept[MOST_LAYERS];
  NAME(lay_out_gru)(&w, kept, net, tree, T, scratch, 0);
  for (int64_t l = 0; l < net->layers; l++) memset(kept[l].dstate, 0, tree->nodes * net->width * sizeof(float));
  for (int64_t i = 0; i < tree->nodes; i++)
    memcpy(kept[net->layers - 1].dstate + i * net->width, dfeatures + w.order[i] * net->width, net->width * sizeof(float));
  NAME(gru_back_through)(&w, kept, T);
}
