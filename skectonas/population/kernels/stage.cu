// One stage of the training step of a whole population.
//
// A candidate's step is a list of operations, each of which needs the one before: see program.py.
// A launch carries out the operations of the same place in the lists of all candidates; every
// block of threads finds in `tiles` which operation it works on, and at which part of it.
//
// Maps are (channel, row, column, batch) and vectors (unit, batch), the batch last, so that
// neighbouring threads read neighbouring values. A sum is always taken in the same order: the
// same input gives the same bits.
//
// `real` (float or double), THREADS and EPSILON (of the batch norm) are defined in front of this
// file.

const int WARP = 32;
const int WARPS = THREADS / WARP;
const int TAPS = 9;
const int CHUNK = 8;   // channels or units of a tile
const int SLICE = 16;  // channels whose kernels are held at once
const int FEW = 4;     // channels of a tile of which each thread keeps several values

enum Kind {
    CONVOLVE,          // convolution and pooling
    NORMALISE,         // statistics of the batch norm behind it
    DENSE,
    LOSS,
    DENSE_WEIGHT,      // gradients of weight and bias
    DENSE_INPUT,       // gradient of what comes in
    NORMALISE_BACK,    // gradients of gamma and beta, and what the gradient of z is made of
    CONVOLVE_WEIGHT,
    CONVOLVE_INPUT
};

// Offsets are those of values in `work` (x, dx, y, dy, norms), `flat` and `gradient` (weight,
// bias, gamma, beta), or `codes`.
struct Op {
    int kind;
    int candidate;
    int height, width;    // of the maps that come in
    int inputs, outputs;  // channels or units
    int maximum;          // whether the maximum is pooled, or else the average
    int relu;             // whether relu follows a dense layer
    int x_channels;       // of x_norms
    int x_area;           // values of each of these channels, for one row
    long long x;          // what comes in; -1 for the batch
    long long x_norms;    // its batch norm and relu, not yet applied to x; -1 for none
    long long dx;         // the gradient of what comes in, behind that relu
    long long weight, bias;
    long long gamma, beta;
    long long y;          // what goes out: z of a cell, in front of its batch norm
    long long dy;         // the gradient of what goes out: of a cell behind its relu
    long long norms;
    long long codes;      // which pixel of a pooling window has the maximum
};

// What `norms` holds, for each channel of a cell.
enum Norm { MEAN, FACTOR, BETA, DEVIATION, GRADIENT_MEAN, GRADIENT_SLOPE };

struct Memory {
    const real *feed, *targets, *weights, *flat;
    real *gradient, *work;
    unsigned char *codes;
    real *losses;
    int batch;
};

// Batch norm and relu of a value of z. What is not a number stays so.
__device__ real activated(const real *norms, int channels, int channel, real z) {
    real mean = norms[MEAN * channels + channel];
    real factor = norms[FACTOR * channels + channel];
    real value = (z - mean) * factor + norms[BETA * channels + channel];
    return value < 0 ? real(0) : value;
}

__device__ real input(const Op &op, const Memory &m, int channel, int at) {
    if (op.x < 0) return m.feed[at];
    real value = m.work[op.x + at];
    if (op.x_norms < 0) return value;
    return activated(m.work + op.x_norms, op.x_channels, channel, value);
}

// The gradient of z at one place of a channel of n values.
__device__ real slope(const Op &op, const Memory &m, int channel, int n, int at) {
    const real *norms = m.work + op.norms;
    real z = m.work[op.y + channel * n + at];
    real dy = m.work[op.dy + channel * n + at];
    real factor = norms[FACTOR * op.outputs + channel];
    real centred = z - norms[MEAN * op.outputs + channel];
    bool passes = centred * factor + norms[BETA * op.outputs + channel] > 0;
    return (passes ? dy * factor : real(0)) - norms[GRADIENT_MEAN * op.outputs + channel] -
           centred * norms[GRADIENT_SLOPE * op.outputs + channel];
}

// The sum over all threads, for all of them.
__device__ real sum_of_block(real value, real *shared) {
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value += __shfl_xor_sync(0xffffffff, value, offset);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    real total = 0;
    for (int i = 0; i < WARPS; ++i) total += shared[i];
    return total;
}

// The 4x4 pixels that the four convolutions of a pooling window see; zero outside the map.
__device__ void load_patch(const Op &op, const Memory &m, int channel, int row, int column, int b,
                           real patch[4][4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        int r = 2 * row - 1 + i;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            int c = 2 * column - 1 + j;
            bool inside = r >= 0 && r < op.height && c >= 0 && c < op.width;
            int at = ((channel * op.height + r) * op.width + c) * m.batch + b;
            patch[i][j] = inside ? input(op, m, channel, at) : real(0);
        }
    }
}

// The mean, over the pixels of a pooling window, of what each tap of a kernel meets. The last
// window of an odd side has one pixel only.
__device__ void average(const real patch[4][4], bool below, bool right, real mean[TAPS]) {
    real share = (below ? real(0.5) : real(1)) * (right ? real(0.5) : real(1));
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        real rows[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) rows[j] = patch[i][j] + (below ? patch[i + 1][j] : real(0));
#pragma unroll
        for (int j = 0; j < 3; ++j)
            mean[3 * i + j] = share * (rows[j] + (right ? rows[j + 1] : real(0)));
    }
}

__device__ bool exceeds(real value, real most) { return value > most || value != value; }

template <bool MAXIMUM>
__device__ void convolve(const Op &op, const Memory &m, int tile, real *shared) {
    const int h = (op.height + 1) / 2, w = (op.width + 1) / 2, n = h * w * m.batch;
    const int chunks = (op.outputs + CHUNK - 1) / CHUNK;
    const int first = tile % chunks * CHUNK;
    const int at = tile / chunks * THREADS + threadIdx.x;
    const bool active = at < n;
    const int b = at % m.batch, column = at / m.batch % w, row = at / m.batch / w;
    const bool below = 2 * row + 1 < op.height, right = 2 * column + 1 < op.width;
    real sums[MAXIMUM ? 4 : 1][CHUNK] = {};
    for (int begin = 0; begin < op.inputs; begin += SLICE) {
        const int slice = min(SLICE, op.inputs - begin);
        __syncthreads();
        for (int k = threadIdx.x; k < slice * TAPS * CHUNK; k += THREADS) {
            int channel = first + k % CHUNK;
            long long weight = op.weight + (channel * op.inputs + begin) * TAPS + k / CHUNK;
            shared[k] = channel < op.outputs ? m.flat[weight] : real(0);
        }
        __syncthreads();
        if (!active) continue;
        for (int i = 0; i < slice; ++i) {
            real patch[4][4];
            load_patch(op, m, begin + i, row, column, b, patch);
            const real *kernels = shared + i * TAPS * CHUNK;
            if (MAXIMUM) {
#pragma unroll
                for (int tap = 0; tap < TAPS; ++tap)
#pragma unroll
                    for (int o = 0; o < CHUNK; ++o)
#pragma unroll
                        for (int pixel = 0; pixel < 4; ++pixel)
                            sums[pixel % (MAXIMUM ? 4 : 1)][o] +=
                                kernels[tap * CHUNK + o] *
                                patch[pixel / 2 + tap / 3][pixel % 2 + tap % 3];
            } else {
                real mean[TAPS];
                average(patch, below, right, mean);
#pragma unroll
                for (int tap = 0; tap < TAPS; ++tap)
#pragma unroll
                    for (int o = 0; o < CHUNK; ++o)
                        sums[0][o] += kernels[tap * CHUNK + o] * mean[tap];
            }
        }
    }
    if (!active) return;
#pragma unroll
    for (int o = 0; o < CHUNK; ++o) {
        if (first + o >= op.outputs) break;
        real value = sums[0][o];
        if (MAXIMUM) {
            unsigned char code = 0;
#pragma unroll
            for (int pixel = 1; pixel < 4; ++pixel) {
                bool inside = (pixel / 2 == 0 || below) && (pixel % 2 == 0 || right);
                real other = sums[pixel % (MAXIMUM ? 4 : 1)][o];
                // Of equal values the first one counts.
                if (inside && exceeds(other, value)) {
                    value = other;
                    code = pixel;
                }
            }
            m.codes[op.codes + (first + o) * n + at] = code;
        }
        m.work[op.y + (first + o) * n + at] = value;
    }
}

__device__ void normalise(const Op &op, const Memory &m, int channel, real *shared) {
    const int n = (op.height + 1) / 2 * ((op.width + 1) / 2) * m.batch;
    const real *z = m.work + op.y + channel * n;
    real sum = 0;
#pragma unroll 4
    for (int at = threadIdx.x; at < n; at += THREADS) sum += z[at];
    const real mean = sum_of_block(sum, shared) / n;
    real squares = 0;
#pragma unroll 4
    for (int at = threadIdx.x; at < n; at += THREADS) squares += (z[at] - mean) * (z[at] - mean);
    const real deviation = rsqrt(sum_of_block(squares, shared) / n + real(EPSILON));
    if (threadIdx.x) return;
    real *norms = m.work + op.norms + channel;
    norms[MEAN * op.outputs] = mean;
    norms[FACTOR * op.outputs] = m.flat[op.gamma + channel] * deviation;
    norms[BETA * op.outputs] = m.flat[op.beta + channel];
    norms[DEVIATION * op.outputs] = deviation;
}

// A warp takes every so many inputs of the same units, a lane one row of the batch.
__device__ void dense(const Op &op, const Memory &m, int tile, real *shared) {
    const int chunks = (op.outputs + CHUNK - 1) / CHUNK;
    const int first = tile % chunks * CHUNK;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int begin = tile / chunks * WARP, b = min(begin + lane, m.batch - 1);
    const int units = min(CHUNK, op.outputs - first);
    const real *weight = m.flat + op.weight + first * op.inputs;
    real sums[CHUNK] = {};
#pragma unroll 4
    for (int k = warp; k < op.inputs; k += WARPS) {
        real value = input(op, m, k / op.x_area, k * m.batch + b);
#pragma unroll
        for (int u = 0; u < CHUNK; ++u)
            sums[u] += weight[min(u, units - 1) * op.inputs + k] * value;
    }
#pragma unroll
    for (int u = 0; u < CHUNK; ++u) shared[(warp * CHUNK + u) * WARP + lane] = sums[u];
    __syncthreads();
    const int u = warp;
    if (u >= units || begin + lane >= m.batch) return;
    real value = m.flat[op.bias + first + u];
    for (int i = 0; i < WARPS; ++i) value += shared[(i * CHUNK + u) * WARP + lane];
    if (op.relu && value < 0) value = 0;
    m.work[op.y + (first + u) * m.batch + begin + lane] = value;
}

// Softmax, cross-entropy and its gradient; a warp for each row of the batch. A target is minus
// the weight of the row in the place of its label, and zero elsewhere.
__device__ void loss(const Op &op, const Memory &m) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (int b = warp; b < m.batch; b += WARPS) {
        const real *logits = m.work + op.y + b;
        real most = logits[0];
        for (int c = lane; c < op.outputs; c += WARP) most = max(most, logits[c * m.batch]);
        for (int offset = WARP / 2; offset > 0; offset /= 2)
            most = max(most, __shfl_xor_sync(0xffffffff, most, offset));
        real sum = 0;
        for (int c = lane; c < op.outputs; c += WARP) sum += exp(logits[c * m.batch] - most);
        for (int offset = WARP / 2; offset > 0; offset /= 2)
            sum += __shfl_xor_sync(0xffffffff, sum, offset);
        const real logarithm = most + log(sum);
        real total = 0;
        for (int c = lane; c < op.outputs; c += WARP) {
            real target = m.targets[c * m.batch + b];
            real value = logits[c * m.batch] - logarithm;
            total += value * target;
            m.work[op.dy + c * m.batch + b] = target + exp(value) * m.weights[b];
        }
        for (int offset = WARP / 2; offset > 0; offset /= 2)
            total += __shfl_xor_sync(0xffffffff, total, offset);
        if (lane == 0) m.losses[op.candidate * m.batch + b] += total;
    }
}

// The gradient of what a dense layer puts out, in front of its relu.
__device__ real dense_slope(const Op &op, const Memory &m, int unit, int b) {
    real dy = m.work[op.dy + unit * m.batch + b];
    return op.relu && !(m.work[op.y + unit * m.batch + b] > 0) ? real(0) : dy;
}

// A lane takes an input, a warp a unit.
__device__ void dense_weight(const Op &op, const Memory &m, int tile, real *shared) {
    const int chunks = (op.outputs + WARPS - 1) / WARPS;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int first = tile % chunks * WARPS, begin = tile / chunks * WARP;
    const int unit = first + warp, k = begin + lane;
    real *x = shared, *slopes = shared + WARP * (WARP + 1);
    real sum = 0, bias = 0;
    for (int rows = 0; rows < m.batch; rows += WARP) {
        const int b = rows + lane;
        __syncthreads();
        for (int i = warp; i < WARP; i += WARPS) {
            bool inside = begin + i < op.inputs && b < m.batch;
            int at = (begin + i) * m.batch + b;
            x[i * (WARP + 1) + lane] = inside ? input(op, m, (begin + i) / op.x_area, at) : real(0);
        }
        bool inside = unit < op.outputs && b < m.batch;
        real own = inside ? dense_slope(op, m, unit, b) : real(0);
        slopes[warp * WARP + lane] = own;
        bias += own;
        __syncthreads();
#pragma unroll 8
        for (int i = 0; i < WARP; ++i) sum += slopes[warp * WARP + i] * x[lane * (WARP + 1) + i];
    }
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        bias += __shfl_xor_sync(0xffffffff, bias, offset);
    if (unit >= op.outputs) return;
    if (k < op.inputs) m.gradient[op.weight + unit * op.inputs + k] = sum;
    if (begin == 0 && lane == 0) m.gradient[op.bias + unit] = bias;
}

// A lane takes a row of the batch, a warp an input.
__device__ void dense_input(const Op &op, const Memory &m, int tile) {
    const int chunks = (op.inputs + WARPS - 1) / WARPS;
    const int k = tile % chunks * WARPS + threadIdx.x / WARP;
    const int b = tile / chunks * WARP + threadIdx.x % WARP;
    if (k >= op.inputs || b >= m.batch) return;
    real sum = 0;
#pragma unroll 4
    for (int unit = 0; unit < op.outputs; ++unit)
        sum += m.flat[op.weight + unit * op.inputs + k] * dense_slope(op, m, unit, b);
    m.work[op.dx + k * m.batch + b] = sum;
}

__device__ void normalise_back(const Op &op, const Memory &m, int channel, real *shared) {
    const int n = (op.height + 1) / 2 * ((op.width + 1) / 2) * m.batch;
    const real *z = m.work + op.y + channel * n, *dy = m.work + op.dy + channel * n;
    real *norms = m.work + op.norms + channel;
    const real mean = norms[MEAN * op.outputs], factor = norms[FACTOR * op.outputs];
    const real beta = norms[BETA * op.outputs], deviation = norms[DEVIATION * op.outputs];
    real sum = 0, product = 0;
#pragma unroll 4
    for (int at = threadIdx.x; at < n; at += THREADS) {
        real centred = z[at] - mean, value = dy[at];
        if (centred * factor + beta > 0) {
            sum += value;
            product += value * centred;
        }
    }
    sum = sum_of_block(sum, shared);
    product = sum_of_block(product, shared) * deviation;
    if (threadIdx.x) return;
    m.gradient[op.beta + channel] = sum;
    m.gradient[op.gamma + channel] = product;
    norms[GRADIENT_MEAN * op.outputs] = factor * sum / n;
    norms[GRADIENT_SLOPE * op.outputs] = factor * deviation * product / n;
}

// A block takes one channel that comes in and a few that go out.
template <bool MAXIMUM>
__device__ void convolve_weight(const Op &op, const Memory &m, int tile, real *shared) {
    const int h = (op.height + 1) / 2, w = (op.width + 1) / 2, n = h * w * m.batch;
    const int channel = tile % op.inputs, first = tile / op.inputs * FEW;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    real sums[FEW][TAPS] = {};
    for (int at = threadIdx.x; at < n; at += THREADS) {
        const int b = at % m.batch, column = at / m.batch % w, row = at / m.batch / w;
        real patch[4][4], mean[TAPS];
        load_patch(op, m, channel, row, column, b, patch);
        if (!MAXIMUM)
            average(patch, 2 * row + 1 < op.height, 2 * column + 1 < op.width, mean);
#pragma unroll
        for (int o = 0; o < FEW; ++o) {
            const int out = min(first + o, op.outputs - 1);
            const real dz = slope(op, m, out, n, at);
            const int code = MAXIMUM ? m.codes[op.codes + out * n + at] : 0;
#pragma unroll
            for (int tap = 0; tap < TAPS; ++tap) {
                if (MAXIMUM) {
#pragma unroll
                    for (int pixel = 0; pixel < 4; ++pixel)
                        sums[o][tap] += (code == pixel ? dz : real(0)) *
                                        patch[pixel / 2 + tap / 3][pixel % 2 + tap % 3];
                } else {
                    sums[o][tap] += dz * mean[tap];
                }
            }
        }
    }
#pragma unroll
    for (int o = 0; o < FEW; ++o)
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap) {
            real value = sums[o][tap];
            for (int offset = WARP / 2; offset > 0; offset /= 2)
                value += __shfl_xor_sync(0xffffffff, value, offset);
            if (lane == 0) shared[warp * FEW * TAPS + o * TAPS + tap] = value;
        }
    __syncthreads();
    const int o = threadIdx.x / TAPS, tap = threadIdx.x % TAPS;
    if (o >= FEW || first + o >= op.outputs) return;
    real total = 0;
    for (int i = 0; i < WARPS; ++i) total += shared[i * FEW * TAPS + threadIdx.x];
    m.gradient[op.weight + ((first + o) * op.inputs + channel) * TAPS + tap] = total;
}

// A thread takes the 2x2 pixels of a pooling window, in a few channels that come in.
template <bool MAXIMUM>
__device__ void convolve_input(const Op &op, const Memory &m, int tile, real *shared) {
    const int h = (op.height + 1) / 2, w = (op.width + 1) / 2, n = h * w * m.batch;
    const int chunks = (op.inputs + FEW - 1) / FEW;
    const int first = tile % chunks * FEW;
    const int at = tile / chunks * THREADS + threadIdx.x;
    const bool active = at < n;
    const int b = at % m.batch, column = at / m.batch % w, row = at / m.batch / w;
    const bool below = 2 * row + 1 < op.height, right = 2 * column + 1 < op.width;
    real sums[FEW][4] = {};
    for (int begin = 0; begin < op.outputs; begin += SLICE) {
        const int slice = min(SLICE, op.outputs - begin);
        __syncthreads();
        for (int k = threadIdx.x; k < slice * FEW * TAPS; k += THREADS) {
            int channel = first + k / TAPS % FEW, out = begin + k / (TAPS * FEW);
            long long weight = op.weight + (out * op.inputs + channel) * TAPS + k % TAPS;
            shared[k] = channel < op.inputs ? m.flat[weight] : real(0);
        }
        __syncthreads();
        if (!active) continue;
        for (int i = 0; i < slice; ++i) {
            // Gradients of the convolution at the 4x4 pixels around, before the pooling.
            real around[4][4];
#pragma unroll
            for (int u = 0; u < 3; ++u)
#pragma unroll
                for (int v = 0; v < 3; ++v) {
                    int r = row - 1 + u, c = column - 1 + v;
                    bool inside = r >= 0 && r < h && c >= 0 && c < w;
                    int there = (r * w + c) * m.batch + b;
                    real dz = inside ? slope(op, m, begin + i, n, there) : real(0);
                    int code = 0;
                    if (MAXIMUM && inside) code = m.codes[op.codes + (begin + i) * n + there];
                    if (!MAXIMUM) {
                        dz *= 2 * r + 1 < op.height ? real(0.5) : real(1);
                        dz *= 2 * c + 1 < op.width ? real(0.5) : real(1);
                    }
                    // Row -1 of the four is the second of the window above, and so on.
#pragma unroll
                    for (int p = 0; p < 4; ++p)
#pragma unroll
                        for (int q = 0; q < 4; ++q) {
                            if ((p + 1) / 2 != u || (q + 1) / 2 != v) continue;
                            const int pixel = (p + 1) % 2 * 2 + (q + 1) % 2;
                            bool exists = (p != 2 || below) && (q != 2 || right);
                            bool takes = !MAXIMUM || code == pixel;
                            around[p][q] = exists && takes ? dz : real(0);
                        }
                }
#pragma unroll
            for (int c = 0; c < FEW; ++c)
#pragma unroll
                for (int tap = 0; tap < TAPS; ++tap) {
                    const real weight = shared[(i * FEW + c) * TAPS + tap];
#pragma unroll
                    for (int pixel = 0; pixel < 4; ++pixel)
                        sums[c][pixel] +=
                            weight * around[pixel / 2 + 2 - tap / 3][pixel % 2 + 2 - tap % 3];
                }
        }
    }
    if (!active) return;
#pragma unroll
    for (int c = 0; c < FEW; ++c) {
        if (first + c >= op.inputs) break;
#pragma unroll
        for (int pixel = 0; pixel < 4; ++pixel) {
            if ((pixel / 2 && !below) || (pixel % 2 && !right)) continue;
            int r = 2 * row + pixel / 2, k = 2 * column + pixel % 2;
            int to = (((first + c) * op.height + r) * op.width + k) * m.batch + b;
            m.work[op.dx + to] = sums[c][pixel];
        }
    }
}

extern "C" __global__ __launch_bounds__(THREADS) void stage(
    const int *tiles, const Op *ops, const real *feed, const real *targets, const real *weights,
    const real *flat, real *gradient, real *work, unsigned char *codes, real *losses, int batch) {
    __shared__ real shared[WARPS * CHUNK * WARP];
    const Op op = ops[tiles[2 * blockIdx.x]];
    const int tile = tiles[2 * blockIdx.x + 1];
    const Memory m = {feed, targets, weights, flat, gradient, work, codes, losses, batch};
    switch (op.kind) {
    case CONVOLVE:
        if (op.maximum) convolve<true>(op, m, tile, shared);
        else convolve<false>(op, m, tile, shared);
        break;
    case NORMALISE: normalise(op, m, tile, shared); break;
    case DENSE: dense(op, m, tile, shared); break;
    case LOSS: loss(op, m); break;
    case DENSE_WEIGHT: dense_weight(op, m, tile, shared); break;
    case DENSE_INPUT: dense_input(op, m, tile); break;
    case NORMALISE_BACK: normalise_back(op, m, tile, shared); break;
    case CONVOLVE_WEIGHT:
        if (op.maximum) convolve_weight<true>(op, m, tile, shared);
        else convolve_weight<false>(op, m, tile, shared);
        break;
    case CONVOLVE_INPUT:
        if (op.maximum) convolve_input<true>(op, m, tile, shared);
        else convolve_input<false>(op, m, tile, shared);
        break;
    }
}
