/* One step of Adam (Kingma and Ba 2015) along minus the gradient [sum of sizes], whose norm is first clipped to `most`, as
   torch.nn.utils.clip_grad_norm_ does; the gradient becomes 0. `powers` holds beta1^t and beta2^t. Returns the norm. */
TARGET double NAME(banel_descend)(float *const *parameters, const int64_t *sizes, int64_t count, float *gradient, float *mean,
                                  float *square, double *powers, double rate, double most) {
  const float keep1 = 0.9f, take1 = 0.1f, keep2 = 0.999f, take2 = 0.001f, epsilon = 1e-8f; /* 1 - 0.999f is off by 1e-5 */
  double parts[8] = {0}, norm = 0;
  int64_t size = 0, begin = 0;
  for (int64_t p = 0; p < count; p++) size += sizes[p];
  for (int64_t i = 0; i < size - size % 8; i += 8)
    for (int j = 0; j < 8; j++) parts[j] += (double)gradient[i + j] * gradient[i + j];
  for (int64_t i = size - size % 8; i < size; i++) parts[0] += (double)gradient[i] * gradient[i];
  for (int j = 0; j < 8; j++) norm += parts[j];
  norm = sqrt(norm);
  double clip = most / (norm + 1e-6);
  float by = clip < 1 ? (float)clip : 1;
  powers[0] *= 0.9;
  powers[1] *= 0.999;
  float step = (float)(rate / (1 - powers[0])), root = (float)sqrt(1 - powers[1]);
  for (int64_t p = 0; p < count; begin += sizes[p++]) {
    float *weight = parameters[p], *g = gradient + begin, *m = mean + begin, *v = square + begin;
    for (int64_t i = 0; i < sizes[p]; i++) {
      float slope = g[i] * by;
      m[i] = keep1 * m[i] + take1 * slope;
      v[i] = keep2 * v[i] + take2 * slope * slope;
      weight[i] -= step * m[i] / (sqrtf(v[i]) / root + epsilon);
      g[i] = 0;
    }
  }
  return norm;
}
