/* The trie of the distinct prefixes of a batch of sequences, in preorder: the rows that a training step computes.

   A node is a prefix of 0 to T - 1 tokens that a sequence really reaches; an edge is a node and the token that follows it.
   Equal prefixes are one node. The weight of a token at a node is the sum of its sequences' weights. It stands in one edge, or,
   where it is the last token of equal sequences, in several: merging these too would change the last bits of a gradient. */

typedef struct {
  int64_t nodes, edges, positions; /* positions: tokens of all sequences, their end tokens included */
  int64_t *last, *depth, *parent;  /* [nodes]: the last token (V for none), the number of tokens, the node one token shorter */
  int64_t *first, *newest;         /* [nodes]: its edges are a list, from the first one to the newest one */
  int64_t *token, *next;           /* [edges] */
  double *weight;                  /* [edges] */
  int64_t *work;                   /* [2 n + T] */
} trie;

/* How many tokens two sequences [T] share at their beginning. */
ALWAYS int64_t shared_tokens(const int64_t *a, const int64_t *b, int64_t T) {
  int64_t t = 0;
  while (t < T && a[t] == b[t]) t++;
  return t;
}

/* Order [n]: the numbers of the sequences in lexicographic order, equal ones in their own order (merge sort). */
static int64_t *sorted_rows(const int64_t *tokens, int64_t n, int64_t T, int64_t *order, int64_t *other) {
  for (int64_t i = 0; i < n; i++) order[i] = i;
  for (int64_t width = 1; width < n; width *= 2) {
    for (int64_t begin = 0; begin < n; begin += 2 * width) {
      int64_t middle = begin + width < n ? begin + width : n, end = begin + 2 * width < n ? begin + 2 * width : n;
      int64_t i = begin, j = middle;
      for (int64_t to = begin; to < end; to++) {
        int left = j == end;
        if (!left && i < middle) {
          const int64_t *a = tokens + order[i] * T, *b = tokens + order[j] * T;
          int64_t t = shared_tokens(a, b, T);
          left = t == T || a[t] < b[t];
        }
        other[to] = left ? order[i++] : order[j++];
      }
    }
    int64_t *swap = order;
    order = other;
    other = swap;
  }
  return order;
}

ALWAYS int64_t added_node(trie *tree, int64_t last, int64_t depth, int64_t parent) {
  int64_t node = tree->nodes++;
  tree->last[node] = last;
  tree->depth[node] = depth;
  tree->parent[node] = parent;
  tree->first[node] = tree->newest[node] = -1;
  return node;
}

ALWAYS int64_t added_edge(trie *tree, int64_t node, int64_t token) {
  int64_t edge = tree->edges++;
  tree->token[edge] = token;
  tree->next[edge] = -1;
  tree->weight[edge] = 0;
  if (tree->first[node] < 0)
    tree->first[node] = edge;
  else
    tree->next[tree->newest[node]] = edge;
  tree->newest[node] = edge;
  return edge;
}

/* The trie of tokens [n, T]: -1, or the first row that holds no token or a token after its end.

   With weights [n] it is the trie of whole sequences; `end` is -1 where each has T tokens. With lengths [n], from 0 to T - 1,
   it is that of their first tokens, without edges, and reached [n] gets the node of each. The arrays have room for n T
   nodes and edges. */
int64_t banel_trie(const int64_t *tokens, const double *weights, const int64_t *lengths, int64_t n, int64_t T, int64_t V,
                   int64_t end, trie *tree, int64_t *reached) {
  tree->nodes = tree->edges = tree->positions = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t most = lengths ? lengths[i] : T;
    for (int64_t t = 0; t < most; t++) {
      int64_t token = tokens[i * T + t];
      if (token < 0 || token >= V || (weights && t && tokens[i * T + t - 1] == end && token != end)) return i;
    }
  }
  const int64_t *order = sorted_rows(tokens, n, T, tree->work, tree->work + n);
  int64_t *path = tree->work + 2 * n; /* the node of each length on the way to the sequence before */
  const int64_t *before = 0;
  int64_t written = 0; /* nodes on that way */
  for (int64_t i = 0; i < n; i++) {
    const int64_t *row = tokens + order[i] * T;
    int64_t common = before ? shared_tokens(before, row, T) : -1, length = 1;
    if (lengths)
      length = lengths[order[i]] + 1;
    else
      while (length < T && row[length - 1] != end) length++;
    for (int64_t t = 0; t < length; t++) {
      if (t > common || t >= written) path[t] = added_node(tree, t ? row[t - 1] : V, t, t ? path[t - 1] : 0);
      if (!weights) continue;
      int64_t edge = t < common && t < written ? tree->newest[path[t]] : added_edge(tree, path[t], row[t]);
      tree->weight[edge] += weights[order[i]];
    }
    if (reached) reached[order[i]] = path[length - 1];
    tree->positions += length;
    if (length - 1 <= common && length <= written) continue; /* the way before goes at least as far */
    before = row;
    written = length;
  }
  return -1;
}
