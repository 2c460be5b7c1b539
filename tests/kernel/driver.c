/* Every function of the kernel on small networks whose weights come from whole numbers; prints digests of all results.

   The lines are the same on every processor and from every compiler (test_golden.py). Each width of register that is here is
   run, and the program ends with status 1 if two differ. Every array has just the size that the kernel is promised, so that a
   sanitizer sees one step beyond. It reads nothing. */

#include "kernel.c"

#include <stdio.h>
#include <stdlib.h>

static uint64_t state;

static uint64_t drawn(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return state >> 33;
}

/* A number from -size to size, exact in float for a size that is a power of two. */
static float number(float size) { return ((float)(int64_t)(drawn() >> 8) - 4194304) / 4194304 * size; }

static float *numbers(int64_t n, float size) {
  float *x = malloc(n * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = number(size);
  return x;
}

static void *room(int64_t bytes) {
  void *found = malloc(bytes);
  memset(found, 0xff, bytes); /* what was not written is NaN, or no place at all */
  return found;
}

static uint64_t hashed(uint64_t hash, const void *bytes, int64_t n) { /* FNV-1a */
  for (int64_t i = 0; i < n; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
  return hash;
}
#define HASH(hash, array, n) hash = hashed(hash, array, (n) * (int64_t)sizeof *(array))

typedef struct {
  const char *name;
  int64_t d, heads, layers, V, T, n, after; /* heads: 0 for a GRU; after: the head reads the last token too */
  int64_t end;
  double temperature;
} shape;

static const shape SHAPES[] = {
    {"smallest", 8, 1, 1, 1, 1, 1, 0, -1, 1}, {"narrow", 24, 3, 2, 5, 6, 101, 0, -1, 0.7},
    {"ends", 16, 2, 2, 4, 7, 193, 0, 3, 1},   {"many tokens", 32, 2, 1, 67, 3, 40, 0, 66, 1},
    {"long", 32, 4, 2, 2, 33, 13, 0, -1, 2},  {"chained", 16, 1, 2, 9, 5, 98, 1, 8, 1},
    {"chain", 32, 2, 1, 17, 4, 30, 1, -1, 3}, {"gru smallest", 8, 0, 1, 1, 1, 1, 0, -1, 1},
    {"gru", 24, 0, 2, 5, 6, 601, 0, 4, 0.7},  {"gru long", 32, 0, 3, 3, 30, 17, 0, -1, 1},
    {"gru many tokens", 16, 0, 1, 67, 4, 97, 0, -1, 2},
};

typedef struct {
  int64_t lanes;
  int64_t (*step)(const network *, const int64_t *, int64_t, int64_t, int64_t, const int64_t *, int64_t, int64_t,
                  const int64_t *, double, double *);
  double (*likelihood)(const trained *, const trie *, int64_t, double, void *);
  void (*features)(const trained *, const trie *, int64_t, void *, float *);
  void (*backward)(const trained *, const trie *, int64_t, void *, const float *);
  int64_t (*bytes)(const trained *, const trie *, int64_t);
  int64_t (*gru_step)(const recurrent *, const int64_t *, int64_t, int64_t, const int64_t *, const float *, int64_t, float *,
                      const int64_t *, int64_t, const int64_t *, double, double *);
  double (*gru_likelihood)(const trained_recurrent *, const trie *, int64_t, double, void *);
  void (*gru_features)(const trained_recurrent *, const trie *, int64_t, void *, float *);
  void (*gru_backward)(const trained_recurrent *, const trie *, int64_t, void *, const float *);
  int64_t (*gru_bytes)(const trained_recurrent *, const trie *, int64_t);
  double (*descend)(float *const *, const int64_t *, int64_t, float *, float *, float *, double *, double, double);
  void (*exp)(const double *, int64_t, double *);
} width;

#define WIDTH(n)                                                                                                       \
  {n,                    banel_step_##n,           banel_likelihood_##n,   banel_features_##n,     banel_backward_##n, \
   banel_train_bytes_##n, banel_gru_step_##n,      banel_gru_likelihood_##n, banel_gru_features_##n,                     \
   banel_gru_backward_##n, banel_gru_train_bytes_##n, banel_descend_##n,     banel_exp_##n}

static const width WIDTHS[] = {
    WIDTH(4),
#if defined(__x86_64__) && BANEL_MOST_LANES >= 8
    WIDTH(8),
#endif
#if defined(__x86_64__) && BANEL_MOST_LANES >= 16
    WIDTH(16),
#endif
};

/* All parameters of a network and their gradients, one after the other. */
#define MOST_PARTS 64
typedef struct {
  float *at[MOST_PARTS], *gradient;
  int64_t size[MOST_PARTS], count, total;
} parts;

static parameter part(parts *p, int64_t n, float size, float around) {
  float *x = numbers(n, size);
  for (int64_t i = 0; i < n; i++) x[i] += around;
  p->at[p->count] = x;
  p->size[p->count++] = n;
  p->total += n;
  return (parameter){x, 0};
}

static layer dense(parts *p, int64_t out, int64_t in) {
  parameter weight = part(p, out * in, 0.5f, 0);
  return (layer){weight, part(p, out, 0.25f, 0)};
}

static layer norm(parts *p, int64_t d) {
  parameter weight = part(p, d, 0.25f, 1);
  return (layer){weight, part(p, d, 0.25f, 0)};
}

/* The gradients' addresses, when all sizes are known; parameters are visited in the order in which they were made. */
static int64_t place(const parts *p, int64_t i, parameter *to) {
  int64_t begin = 0;
  for (int64_t j = 0; j < i; j++) begin += p->size[j];
  to->gradient = p->gradient + begin;
  return i + 1;
}

static int64_t place_layer(const parts *p, int64_t i, layer *to) { return place(p, place(p, i, &to->weight), &to->bias); }

/* A weight [out, rows of `in` numbers, `apart` from one to the next] in panels of 2 lanes columns. */
static matrix packed(const layer *from, int64_t begin, int64_t out, int64_t in, int64_t apart, int64_t lanes) {
  int64_t panel = 2 * lanes, columns = (out + panel - 1) / panel * panel;
  float *to = room(columns * in * sizeof(float)), *bias = room(columns * sizeof(float));
  for (int64_t j = 0; j < columns; j++) {
    bias[j] = j < out ? from->bias.at[begin + j] : 0;
    for (int64_t i = 0; i < in; i++)
      to[(j / panel * in + i) * panel + j % panel] = j < out ? from->weight.at[(begin + j) * apart + i] : 0;
  }
  return (matrix){columns, to, bias};
}

static void unpack(matrix m) {
  free((void *)m.packed);
  free((void *)m.bias);
}

static int64_t *sequences(const shape *s) {
  int64_t *tokens = malloc(s->n * s->T * sizeof *tokens);
  for (int64_t i = 0; i < s->n; i++)
    for (int64_t t = 0; t < s->T; t++) {
      int64_t token = drawn() % s->V;
      tokens[i * s->T + t] = t && tokens[i * s->T + t - 1] == s->end ? s->end : token;
      if (i % 5 == 4) tokens[i * s->T + t] = tokens[(i - 1) * s->T + t]; /* some are equal */
    }
  return tokens;
}

/* What enters at a position: as the callers of the kernel do it, each of the V + 1 inputs once where there are more rows. */
static int64_t entering(const shape *s, const int64_t *last, int64_t *inputs, int64_t *taken) {
  int64_t few = s->n <= s->V + 1, r = few ? s->n : s->V + 1;
  for (int64_t i = 0; i < r; i++) inputs[i] = few ? last[i] : i;
  for (int64_t i = 0; i < s->n; i++) taken[i] = few ? i : last[i];
  return r;
}

/* The steps of a transformer or a GRU along the sequences; `step` is called with what follows. */
#define ALONG(step)                                                                                              \
  int64_t n = s->n, V = s->V, wrong;                                                                              \
  int64_t *last = malloc(n * sizeof *last), *taken = malloc(n * sizeof *taken);                                   \
  double *log_probs = room(n * V * sizeof *log_probs);                                                            \
  for (int64_t t = 0; t < s->T; t++) {                                                                            \
    for (int64_t i = 0; i < n; i++) last[i] = t ? tokens[i * s->T + t - 1] : V;                                   \
    int64_t *inputs = malloc((n < V + 1 ? n : V + 1) * sizeof *inputs), r = entering(s, last, inputs, taken);      \
    step HASH(hash, log_probs, n * V);                                                                            \
    last[n / 2] = t % 2 ? -1 : V + 1; /* no token */                                                              \
    wrong = -2;                                                                                                   \
    step if (wrong != n / 2) exit(2);                                                                             \
    free(inputs);                                                                                                 \
  }                                                                                                               \
  free(last);                                                                                                     \
  free(taken);                                                                                                    \
  free(log_probs);

static uint64_t steps(const shape *s, const trained *net, const int64_t *tokens, const width *w, uint64_t hash) {
  int64_t d = s->d, rows = s->n * s->T, row = d + net->after;
  block *blocks = malloc(s->layers * sizeof *blocks);
  float *after = 0;
  for (int64_t l = 0; l < s->layers; l++) {
    const trained_block *b = net->blocks + l;
    blocks[l] = (block){{b->norm1.weight.at, b->norm1.bias.at}, {b->norm2.weight.at, b->norm2.bias.at},
                        packed(&b->qkv, 0, d, d, d, w->lanes), packed(&b->qkv, d, 2 * d, d, d, w->lanes),
                        packed(&b->mix, 0, d, d, d, w->lanes), packed(&b->up, 0, 4 * d, d, d, w->lanes),
                        packed(&b->down, 0, d, 4 * d, 4 * d, w->lanes), room(rows * 2 * d * sizeof(float))};
  }
  int64_t *parents = room(rows * sizeof *parents), *entered = room(rows * sizeof *entered), first = 0;
  network stepped = {d, s->heads, s->layers, s->V, net->token.at, net->position.at, blocks,
                     {net->norm.weight.at, net->norm.bias.at}, packed(&net->head, 0, s->V, d, row, w->lanes),
                     0, parents, entered, 0};
  if (net->after) {
    after = malloc(net->after * stepped.head.out * sizeof *after);
    for (int64_t u = 0; u < net->after; u++)
      for (int64_t v = 0; v < stepped.head.out; v++)
        after[u * stepped.head.out + v] = v < s->V ? net->head.weight.at[v * row + d + u] : 0;
    stepped.after = after;
  }
  stepped.scratch = room(banel_scratch(&stepped, s->T));
  ALONG({
    for (int64_t i = 0; i < n; i++) {
      parents[t * n + i] = t ? (t - 1) * n + i : -1;
      entered[t * n + i] = first + taken[i];
    }
    wrong = w->step(&stepped, last, t, n, t * n, inputs, r, first, taken, s->temperature, log_probs);
    first += wrong < 0 ? r : 0;
  })
  for (int64_t l = 0; l < s->layers; l++) {
    matrix all[] = {blocks[l].query, blocks[l].pair, blocks[l].mix, blocks[l].up, blocks[l].down};
    for (int i = 0; i < 5; i++) unpack(all[i]);
    free(blocks[l].pairs);
  }
  unpack(stepped.head);
  free(stepped.scratch);
  free(after);
  free(parents);
  free(entered);
  free(blocks);
  return hash;
}

static uint64_t gru_steps(const shape *s, const trained_recurrent *net, const int64_t *tokens, const width *w, uint64_t hash) {
  int64_t d = s->d, bytes = s->layers * s->n * d * sizeof(float);
  cell *cells = malloc(s->layers * sizeof *cells);
  for (int64_t l = 0; l < s->layers; l++)
    cells[l] = (cell){packed(&net->cells[l].in, 0, 3 * d, d, d, w->lanes), packed(&net->cells[l].state, 0, 3 * d, d, d, w->lanes)};
  recurrent stepped = {d, s->layers, s->V, net->token.at, net->position.at, cells, packed(&net->head, 0, s->V, d, d, w->lanes), 0};
  stepped.scratch = room(banel_gru_scratch(&stepped));
  float *before = room(bytes), *grown = room(bytes);
  memset(before, 0, bytes);
  int64_t *parents = malloc(s->n * sizeof *parents);
  for (int64_t i = 0; i < s->n; i++) parents[i] = i;
  ALONG({
    wrong = w->gru_step(&stepped, last, t, n, parents, before, n, grown, inputs, r, taken, s->temperature, log_probs);
    if (wrong < 0) memcpy(before, grown, bytes);
  })
  HASH(hash, before, s->layers * s->n * d);
  for (int64_t l = 0; l < s->layers; l++) {
    unpack(cells[l].in);
    unpack(cells[l].state);
  }
  unpack(stepped.head);
  free(stepped.scratch);
  free(before);
  free(grown);
  free(parents);
  free(cells);
  return hash;
}

typedef struct {
  trie tree;
  int64_t *arrays[8];
} held_trie;

static held_trie new_trie(const shape *s) {
  held_trie h;
  for (int i = 0; i < 7; i++) h.arrays[i] = room(s->n * s->T * sizeof(int64_t));
  h.arrays[7] = room((2 * s->n + s->T) * sizeof(int64_t));
  h.tree = (trie){0,           0,           0,           h.arrays[0], h.arrays[1], h.arrays[2], h.arrays[3], h.arrays[4],
                  h.arrays[5], h.arrays[6], room(s->n * s->T * sizeof(double)), h.arrays[7]};
  return h;
}

static void free_trie(held_trie *h) {
  for (int i = 0; i < 8; i++) free(h->arrays[i]);
  free(h->tree.weight);
}

/* Two steps of Adam on the likelihood, then the features of prefixes and their gradient; `net` is either kind. */
static uint64_t train(const shape *s, const void *net, parts *p, int64_t *tokens, const width *w, uint64_t hash, double *loss) {
  int64_t n = s->n, T = s->T;
  double *weights = malloc(n * sizeof *weights), powers[2] = {1, 1};
  int64_t *lengths = malloc(n * sizeof *lengths), *reached = room(n * sizeof *reached);
  for (int64_t i = 0; i < n; i++) {
    weights[i] = i % 7 == 3 ? 0 : number(4) / (float)n;
    lengths[i] = drawn() % T;
  }
  float *mean = calloc(p->total, sizeof *mean), *square = calloc(p->total, sizeof *square);
  held_trie h = new_trie(s);
  if (banel_trie(tokens, weights, 0, n, T, s->V, s->end, &h.tree, 0) != -1) exit(3);
  HASH(hash, h.tree.depth, h.tree.nodes);
  HASH(hash, h.tree.weight, h.tree.edges);
  void *scratch = room(s->heads ? w->bytes(net, &h.tree, T) : w->gru_bytes(net, &h.tree, T));
  for (int i = 0; i < 2; i++) {
    *loss = s->heads ? w->likelihood(net, &h.tree, T, s->temperature, scratch)
                     : w->gru_likelihood(net, &h.tree, T, s->temperature, scratch);
    HASH(hash, loss, 1);
    HASH(hash, p->gradient, p->total);
    double norm = w->descend(p->at, p->size, p->count, p->gradient, mean, square, powers, 0.01, i ? 1 : 0.01);
    HASH(hash, &norm, 1);
    for (int64_t j = 0; j < p->count; j++) HASH(hash, p->at[j], p->size[j]);
  }
  free(scratch);
  if (banel_trie(tokens, 0, lengths, n, T, s->V, -1, &h.tree, reached) != -1) exit(4);
  HASH(hash, reached, n);
  scratch = room(s->heads ? w->bytes(net, &h.tree, T) : w->gru_bytes(net, &h.tree, T));
  int64_t size = h.tree.nodes * s->d;
  float *features = room(size * sizeof *features), *slopes = numbers(size, 1);
  (s->heads ? (void)w->features(net, &h.tree, T, scratch, features) : w->gru_features(net, &h.tree, T, scratch, features));
  (s->heads ? (void)w->backward(net, &h.tree, T, scratch, slopes) : w->gru_backward(net, &h.tree, T, scratch, slopes));
  HASH(hash, features, size);
  HASH(hash, p->gradient, p->total);
  tokens[n / 2 * T] = s->V; /* no token; it is not read where the length is 0 */
  lengths[n / 2] = T > 1;
  if (banel_trie(tokens, weights, 0, n, T, s->V, s->end, &h.tree, 0) != n / 2) exit(5);
  if (banel_trie(tokens, 0, lengths, n, T, s->V, -1, &h.tree, reached) != (T > 1 ? n / 2 : -1)) exit(6);
  free_trie(&h);
  void *all[] = {weights, lengths, reached, mean, square, scratch, features, slopes};
  for (int i = 0; i < 8; i++) free(all[i]);
  return hash;
}

/* One network of this shape through everything, from the same numbers whatever the width. */
static uint64_t run(const shape *s, const width *w, double *loss) {
  parts p = {.count = 0};
  trained_block blocks[8];
  trained_cell cells[8];
  int64_t d = s->d, V = s->V, after = s->after ? V + 1 : 0, i = 0;
  uint64_t hash = 14695981039346656037u;
  state = 20240229;
  trained net = {.width = d, .heads = s->heads, .layers = s->layers, .vocabulary = V, .after = after, .blocks = blocks};
  net.token = part(&p, (V + 1) * d, 1, 0);
  net.position = part(&p, s->T * d, 1, 0);
  for (int64_t l = 0; l < s->layers; l++)
    if (s->heads) {
      trained_block *b = blocks + l;
      b->norm1 = norm(&p, d);
      b->qkv = dense(&p, 3 * d, d);
      b->mix = dense(&p, d, d);
      b->norm2 = norm(&p, d);
      b->up = dense(&p, 4 * d, d);
      b->down = dense(&p, d, 4 * d);
    } else {
      cells[l].in = dense(&p, 3 * d, d);
      cells[l].state = dense(&p, 3 * d, d);
    }
  if (s->heads) net.norm = norm(&p, d);
  net.head = dense(&p, V, d + after);
  p.gradient = calloc(p.total, sizeof *p.gradient);
  i = place(&p, place(&p, 0, &net.token), &net.position);
  for (int64_t l = 0; l < s->layers; l++) {
    layer *of_block[] = {&blocks[l].norm1, &blocks[l].qkv, &blocks[l].mix, &blocks[l].norm2, &blocks[l].up, &blocks[l].down};
    layer *of_cell[] = {&cells[l].in, &cells[l].state};
    for (int k = 0; k < (s->heads ? 6 : 2); k++) i = place_layer(&p, i, s->heads ? of_block[k] : of_cell[k]);
  }
  if (s->heads) i = place_layer(&p, i, &net.norm);
  place_layer(&p, i, &net.head);
  trained_recurrent gru = {d, s->layers, V, net.token, net.position, cells, net.head};
  int64_t *tokens = sequences(s);
  hash = s->heads ? steps(s, &net, tokens, w, hash) : gru_steps(s, &gru, tokens, w, hash);
  hash = train(s, s->heads ? (const void *)&net : &gru, &p, tokens, w, hash, loss);
  for (int64_t j = 0; j < p.count; j++) free(p.at[j]);
  free(p.gradient);
  free(tokens);
  return hash;
}

/* exp and log over numbers of every size, and over those without an ordinary result. */
static uint64_t functions(const width *w) {
  enum { N = 4099 };
  double *x = malloc(N * sizeof *x), *found = room(N * sizeof *found);
  const double special[] = {0, -0.0, INFINITY, -INFINITY, 5e-324, -745.13321910194122, 709.78271289338397, 1e308};
  uint64_t hash = 14695981039346656037u;
  state = 1;
  for (int64_t i = 0; i < N; i++) {
    x[i] = of_bits((int64_t)(drawn() << 33 | drawn() << 2));
    if (x[i] != x[i] || i % 3 == 0) x[i] = (double)number(1024);
    if (i < 8) x[i] = special[i];
  }
  w->exp(x, N, found);
  for (int64_t i = 0; i < N; i++) found[i] = found[i] == found[i] ? found[i] : 0;
  HASH(hash, found, N);
  banel_log(x, N, found);
  for (int64_t i = 0; i < N; i++) found[i] = found[i] == found[i] ? found[i] : 0; /* the bits of a NaN are no result */
  HASH(hash, found, N);
  free(x);
  free(found);
  return hash;
}

int main(void) {
  int widths = sizeof WIDTHS / sizeof *WIDTHS, most = banel_lanes();
  if (!most || strncmp(banel_built(), BANEL_DIGEST, strlen(BANEL_DIGEST))) return 7;
  for (int64_t i = -1; i < (int64_t)(sizeof SHAPES / sizeof *SHAPES); i++) {
    uint64_t first = 0;
    double loss = 0;
    for (int k = 0; k < widths && WIDTHS[k].lanes <= most; k++) {
      if (i >= 0 && SHAPES[i].d % (2 * WIDTHS[k].lanes)) continue;
      uint64_t hash = i < 0 ? functions(WIDTHS + k) : run(SHAPES + i, WIDTHS + k, &loss);
      if (k && hash != first) {
        printf("%s differs at %d lanes\n", i < 0 ? "exp and log" : SHAPES[i].name, (int)WIDTHS[k].lanes);
        return 1;
      }
      first = hash;
    }
    printf("%s %016llx %.9g\n", i < 0 ? "exp and log" : SHAPES[i].name, (unsigned long long)first, loss);
  }
  return 0;
}
