/* One hidden layer beside its matrix product: bias, LayerNorm, scale and shift, activation; forward and backward.
 *
 * Each row is read and written once, where separate operators pass over the whole activation six to ten times: with
 * products at the processor's peak that traffic is half of an update. Arrays are contiguous, (members, rows, width) or
 * (members, width). Built by compiled.py; hidden.py says the same in PyTorch.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && !defined(__clang__)
#pragma GCC target("prefer-vector-width=512") /* GCC's own choice, half of that, costs a quarter of the time more */
#endif

enum { TANH, SILU, RELU };

/* Cephes' expf: a polynomial on [-ln 2 / 2, ln 2 / 2] times a power of two; compilers vectorise it. NaN stays NaN. */
static inline float exponential(float value) {
    value = value < -87.0f ? -87.0f : value;
    value = value > 88.0f ? 88.0f : value;
    float power = rintf(value * 1.44269504088896341f);
    float rest = value - power * 0.693359375f + power * 2.12194440e-4f;
    float result = 1.9875691500e-4f;
    result = result * rest + 1.3981999507e-3f;
    result = result * rest + 8.3334519073e-3f;
    result = result * rest + 4.1665795894e-2f;
    result = result * rest + 1.6666665459e-1f;
    result = result * rest + 5.0000001201e-1f;
    result = result * rest * rest + rest + 1.0f;
    int32_t bits = ((int32_t)power + 127) << 23;
    float factor;
    memcpy(&factor, &bits, sizeof factor);
    return result * factor;
}

static inline float activate(float before, int activation) {
    if (activation == RELU) return before < 0.0f ? 0.0f : before;
    if (activation == SILU) return before / (1.0f + exponential(-before));
    return 2.0f / (1.0f + exponential(-2.0f * before)) - 1.0f;
}

static inline float slope(float before, int activation) {
    if (activation == RELU) return before > 0.0f ? 1.0f : 0.0f;
    if (activation == TANH) {
        float after = activate(before, TANH);
        return 1.0f - after * after;
    }
    float sigmoid = 1.0f / (1.0f + exponential(-before));
    return sigmoid * (1.0f + before * (1.0f - sigmoid));
}

static inline float forward_row(float *linear, const float *bias, const float *scale, const float *shift, float *after,
                                ptrdiff_t width, float epsilon, int activation) {
    float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < width; i++) {
        linear[i] += bias[i];
        sum += linear[i];
    }
    float mean = sum / width;
#pragma omp simd reduction(+ : squares)
    for (ptrdiff_t i = 0; i < width; i++) squares += (linear[i] - mean) * (linear[i] - mean);
    float rstd = 1.0f / sqrtf(squares / width + epsilon);
#pragma omp simd
    for (ptrdiff_t i = 0; i < width; i++) {
        float normal = (linear[i] - mean) * rstd;
        linear[i] = normal;
        after[i] = activate(normal * scale[i] + shift[i], activation);
    }
    return rstd;
}

/* `linear` becomes the normalised value, `rstd` (members, rows) its factor; `after` may be `linear` itself. */
void hidden_forward(float *linear, const float *bias, const float *scale, const float *shift, float *rstd, float *after,
                    ptrdiff_t members, ptrdiff_t rows, ptrdiff_t width, float epsilon, int activation) {
    for (ptrdiff_t row = 0; row < members * rows; row++) {
        ptrdiff_t at = row * width, of = row / rows * width;
#define ROW(f) rstd[row] = forward_row(linear + at, bias + of, scale + of, shift + of, after + at, width, epsilon, f)
        if (activation == TANH) ROW(TANH);
        else if (activation == SILU) ROW(SILU);
        else ROW(RELU);
#undef ROW
    }
}

static inline void backward_row(const float *gradient, const float *normal, float rstd, const float *scale,
                                const float *shift, float *result, float *sums, ptrdiff_t member, ptrdiff_t width,
                                int activation) {
    float sum = 0.0f, projection = 0.0f;
    float *to_scale = sums, *to_shift = sums + member, *to_bias = sums + 2 * member;
#pragma omp simd reduction(+ : sum, projection)
    for (ptrdiff_t i = 0; i < width; i++) {
        float before = gradient[i] * slope(normal[i] * scale[i] + shift[i], activation);
        to_scale[i] += before * normal[i];
        to_shift[i] += before;
        result[i] = before * scale[i];
        sum += result[i];
        projection += result[i] * normal[i];
    }
    sum /= width;
    projection /= width;
#pragma omp simd
    for (ptrdiff_t i = 0; i < width; i++) {
        result[i] = rstd * (result[i] - sum - normal[i] * projection);
        to_bias[i] += result[i];
    }
}

/* From the gradient after the activation to `result`, that of the product, which may be `gradient` itself.
 * `sums` (3, members, width), zero at first: the gradients of scale, shift and bias. */
void hidden_backward(const float *gradient, const float *normal, const float *rstd, const float *scale,
                     const float *shift, float *result, float *sums, ptrdiff_t members, ptrdiff_t rows,
                     ptrdiff_t width, int activation) {
    for (ptrdiff_t row = 0; row < members * rows; row++) {
        ptrdiff_t at = row * width, of = row / rows * width;
#define ROW(f) \
    backward_row(gradient + at, normal + at, rstd[row], scale + of, shift + of, result + at, sums + of, \
                 members * width, width, f)
        if (activation == TANH) ROW(TANH);
        else if (activation == SILU) ROW(SILU);
        else ROW(RELU);
#undef ROW
    }
}
