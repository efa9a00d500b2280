// Training steps of a whole population.
//
// A cluster of thread blocks trains a candidate, whatever its topology, for as many steps as
// batches are loaded. A step is a list of stages, see program.py; the blocks share the tiles of a
// stage and wait for each other behind it. Candidates need not wait for one another.
//
// Maps are (channel, row, column, batch) and vectors (unit, batch), the batch last, so that
// neighbouring threads read neighbouring values. A sum is always taken in the same order: the
// same input gives the same bits.
//
// `real` (float or double), THREADS, BLOCKS (of a cluster) and EPSILON (of the batch norm) are
// defined in front of this file.

const int WARP = 32;
const int WARPS = THREADS / WARP;
const int TAPS = 9;
const int CHUNK = 8;  // channels or units of a tile
const int SLICE = 16; // channels whose kernels are held at once
const int FEW = 4;    // channels or inputs of a tile of which each thread keeps several values

enum Kind {
    CONVOLVE,         // convolution and pooling
    NORMALISE,        // batch norm and relu
    DENSE,
    LOSS,
    DENSE_WEIGHT,     // gradients of weight and bias
    DENSE_INPUT,      // gradient of what comes in
    NORMALISE_BACK,   // gradients of gamma, beta and z
    CONVOLVE_WEIGHT,
    CONVOLVE_INPUT,
    COLLECT,          // the sum of a gradient that was computed in parts
    UPDATE
};

// Offsets are those of values in `work` (x, dx, y, z, dy, norms, parts), `weights` and `gradient`
// (weight, bias, gamma, beta), or `codes`.
struct Op {
    int kind;
    int candidate;
    int n_tiles;
    int height, width;    // of the maps that come in
    int inputs, outputs;  // channels or units
    int maximum;          // whether the maximum is pooled, or else the average
    int relu;             // whether relu follows a dense layer
    int splits;           // parts in which the gradient of a convolution is computed
    long long x;          // what comes in; -1 for the batch
    long long dx;         // its gradient
    long long weight, bias;
    long long gamma, beta;
    long long y;          // what goes out
    long long dy;         // its gradient; behind NORMALISE_BACK that of z
    long long z;          // of a cell, in front of its batch norm
    long long norms;      // mean, factor and deviation of each channel
    long long parts;
    long long codes;      // which pixel of a pooling window has the maximum
};

// How SGD updates the weights.
struct Rule {
    real rate, momentum, dampening, decay;
    bool nesterov, fresh;
};

struct Memory {
    const real *images, *targets, *shares; // of the batch
    real *weights, *gradient, *velocity, *work;
    unsigned char *codes;
    real *losses;
    int batch;
    Rule rule;
};

__device__ const real *input(const Op &op, const Memory &m) {
    return op.x < 0 ? m.images : m.work + op.x;
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
    const real *x = input(op, m) + channel * op.height * op.width * m.batch + b;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        int r = 2 * row - 1 + i;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            int c = 2 * column - 1 + j;
            bool inside = r >= 0 && r < op.height && c >= 0 && c < op.width;
            patch[i][j] = inside ? x[(r * op.width + c) * m.batch] : real(0);
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
            shared[k] = channel < op.outputs ? m.weights[weight] : real(0);
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
        m.work[op.z + (first + o) * n + at] = value;
    }
}

enum Norm { MEAN, FACTOR, DEVIATION };

__device__ void normalise(const Op &op, const Memory &m, int channel, real *shared) {
    const int n = (op.height + 1) / 2 * ((op.width + 1) / 2) * m.batch;
    const real *z = m.work + op.z + channel * n;
    real *y = m.work + op.y + channel * n;
    real sum = 0;
#pragma unroll 8
    for (int at = threadIdx.x; at < n; at += THREADS) sum += z[at];
    const real mean = sum_of_block(sum, shared) / n;
    real squares = 0;
#pragma unroll 8
    for (int at = threadIdx.x; at < n; at += THREADS) squares += (z[at] - mean) * (z[at] - mean);
    const real deviation = rsqrt(sum_of_block(squares, shared) / n + real(EPSILON));
    const real factor = m.weights[op.gamma + channel] * deviation;
    const real beta = m.weights[op.beta + channel];
#pragma unroll 8
    for (int at = threadIdx.x; at < n; at += THREADS) {
        const real value = (z[at] - mean) * factor + beta;
        y[at] = value < 0 ? real(0) : value; // what is not a number stays so
    }
    if (threadIdx.x) return;
    real *norms = m.work + op.norms + channel;
    norms[MEAN * op.outputs] = mean;
    norms[FACTOR * op.outputs] = factor;
    norms[DEVIATION * op.outputs] = deviation;
}

// A warp takes every so many inputs of the same units, a lane one row of the batch.
__device__ void dense(const Op &op, const Memory &m, int tile, real *shared) {
    const int chunks = (op.outputs + CHUNK - 1) / CHUNK;
    const int first = tile % chunks * CHUNK;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int begin = tile / chunks * WARP, b = min(begin + lane, m.batch - 1);
    const int units = min(CHUNK, op.outputs - first);
    const real *weight = m.weights + op.weight + (long long)first * op.inputs;
    const real *x = input(op, m) + b;
    real sums[CHUNK] = {};
#pragma unroll 4
    for (int k = warp; k < op.inputs; k += WARPS) {
        real value = x[k * m.batch];
#pragma unroll
        for (int u = 0; u < CHUNK; ++u)
            sums[u] += weight[min(u, units - 1) * op.inputs + k] * value;
    }
#pragma unroll
    for (int u = 0; u < CHUNK; ++u) shared[(warp * CHUNK + u) * WARP + lane] = sums[u];
    __syncthreads();
    const int u = warp;
    if (u >= units || begin + lane >= m.batch) return;
    real value = m.weights[op.bias + first + u];
    for (int i = 0; i < WARPS; ++i) value += shared[(i * CHUNK + u) * WARP + lane];
    if (op.relu && value < 0) value = 0;
    m.work[op.y + (first + u) * m.batch + begin + lane] = value;
}

// Softmax, cross-entropy and its gradient; a warp for each row of the batch. A target is minus
// the share of the row in the mean, in the place of its label, and zero elsewhere.
__device__ void loss(const Op &op, const Memory &m, int tile) {
    const int lane = threadIdx.x % WARP, b = tile * WARPS + threadIdx.x / WARP;
    if (b >= m.batch) return;
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
        m.work[op.dy + c * m.batch + b] = target + exp(value) * m.shares[b];
    }
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        total += __shfl_xor_sync(0xffffffff, total, offset);
    if (lane == 0) m.losses[op.candidate * m.batch + b] += total;
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
    const real *source = input(op, m);
    real *x = shared, *slopes = shared + WARP * (WARP + 1);
    real sum = 0, bias = 0;
    for (int rows = 0; rows < m.batch; rows += WARP) {
        const int b = rows + lane;
        __syncthreads();
        for (int i = warp; i < WARP; i += WARPS) {
            bool inside = begin + i < op.inputs && b < m.batch;
            x[i * (WARP + 1) + lane] = inside ? source[(begin + i) * m.batch + b] : real(0);
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
    if (k < op.inputs) m.gradient[op.weight + (long long)unit * op.inputs + k] = sum;
    if (begin == 0 && lane == 0) m.gradient[op.bias + unit] = bias;
}

// A lane takes a row of the batch, a warp a few inputs.
__device__ void dense_input(const Op &op, const Memory &m, int tile) {
    const int chunks = (op.inputs + WARPS * FEW - 1) / (WARPS * FEW);
    const int first = (tile % chunks * WARPS + threadIdx.x / WARP) * FEW;
    const int b = tile / chunks * WARP + threadIdx.x % WARP;
    if (first >= op.inputs || b >= m.batch) return;
    real sums[FEW] = {};
#pragma unroll 4
    for (int unit = 0; unit < op.outputs; ++unit) {
        const real *weight = m.weights + op.weight + (long long)unit * op.inputs;
        const real slope = dense_slope(op, m, unit, b);
#pragma unroll
        for (int i = 0; i < FEW; ++i) sums[i] += weight[min(first + i, op.inputs - 1)] * slope;
    }
#pragma unroll
    for (int i = 0; i < FEW; ++i)
        if (first + i < op.inputs) m.work[op.dx + (first + i) * m.batch + b] = sums[i];
}

__device__ void normalise_back(const Op &op, const Memory &m, int channel, real *shared) {
    const int n = (op.height + 1) / 2 * ((op.width + 1) / 2) * m.batch;
    const real *z = m.work + op.z + channel * n, *y = m.work + op.y + channel * n;
    real *dy = m.work + op.dy + channel * n;
    const real *norms = m.work + op.norms + channel;
    const real mean = norms[MEAN * op.outputs], factor = norms[FACTOR * op.outputs];
    const real deviation = norms[DEVIATION * op.outputs];
    real sum = 0, product = 0;
#pragma unroll 4
    for (int at = threadIdx.x; at < n; at += THREADS) {
        const real slope = y[at] > 0 ? dy[at] : real(0);
        sum += slope;
        product += slope * (z[at] - mean);
    }
    sum = sum_of_block(sum, shared);
    product = sum_of_block(product, shared) * deviation;
    const real same = factor * sum / n, along = factor * deviation * product / n;
#pragma unroll 4
    for (int at = threadIdx.x; at < n; at += THREADS) {
        const real slope = y[at] > 0 ? dy[at] : real(0);
        dy[at] = factor * slope - same - along * (z[at] - mean);
    }
    if (threadIdx.x) return;
    m.gradient[op.beta + channel] = sum;
    m.gradient[op.gamma + channel] = product;
}

// A tile is one channel that comes in, a few that go out, and a part of the places.
template <bool MAXIMUM>
__device__ void convolve_weight(const Op &op, const Memory &m, int tile, real *shared) {
    const int h = (op.height + 1) / 2, w = (op.width + 1) / 2, n = h * w * m.batch;
    const int part = tile % op.splits, channel = tile / op.splits % op.inputs;
    const int first = tile / op.splits / op.inputs * FEW;
    const int length = (n + op.splits - 1) / op.splits, end = min(n, (part + 1) * length);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    real sums[FEW][TAPS] = {};
    for (int at = part * length + threadIdx.x; at < end; at += THREADS) {
        const int b = at % m.batch, column = at / m.batch % w, row = at / m.batch / w;
        real patch[4][4], mean[TAPS];
        load_patch(op, m, channel, row, column, b, patch);
        if (!MAXIMUM)
            average(patch, 2 * row + 1 < op.height, 2 * column + 1 < op.width, mean);
#pragma unroll
        for (int o = 0; o < FEW; ++o) {
            const int out = min(first + o, op.outputs - 1);
            const real dz = m.work[op.dy + out * n + at];
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
    const int weight = ((first + o) * op.inputs + channel) * TAPS + tap;
    if (op.splits == 1) m.gradient[op.weight + weight] = total;
    else m.work[op.parts + part * op.outputs * op.inputs * TAPS + weight] = total;
}

__device__ void collect(const Op &op, const Memory &m, int tile) {
    const int n = op.outputs * op.inputs * TAPS, at = tile * THREADS + threadIdx.x;
    if (at >= n) return;
    real total = 0;
    for (int part = 0; part < op.splits; ++part) total += m.work[op.parts + part * n + at];
    m.gradient[op.weight + at] = total;
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
            shared[k] = channel < op.inputs ? m.weights[weight] : real(0);
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
                    real dz = inside ? m.work[op.dy + (begin + i) * n + there] : real(0);
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

// As torch.optim.SGD does it; `inputs` is the number of weights.
__device__ void update(const Op &op, const Memory &m, int tile) {
    for (int i = 0; i < FEW; ++i) {
        const int at = (tile * FEW + i) * THREADS + threadIdx.x;
        if (at >= op.inputs) return;
        real &weight = m.weights[op.weight + at];
        real slope = m.gradient[op.weight + at] + m.rule.decay * weight;
        if (m.rule.momentum != 0) {
            real &velocity = m.velocity[op.weight + at];
            real pull = m.rule.fresh ? slope : (1 - m.rule.dampening) * slope;
            velocity = m.rule.fresh ? pull : m.rule.momentum * velocity + pull;
            slope = m.rule.nesterov ? slope + m.rule.momentum * velocity : velocity;
        }
        weight -= m.rule.rate * slope;
    }
}

__device__ void run(const Op &op, const Memory &m, int tile, real *shared) {
    switch (op.kind) {
    case CONVOLVE:
        if (op.maximum) convolve<true>(op, m, tile, shared);
        else convolve<false>(op, m, tile, shared);
        break;
    case NORMALISE: normalise(op, m, tile, shared); break;
    case DENSE: dense(op, m, tile, shared); break;
    case LOSS: loss(op, m, tile); break;
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
    case COLLECT: collect(op, m, tile); break;
    case UPDATE: update(op, m, tile); break;
    }
}

// Behind it, every block of the cluster sees what the others have written.
__device__ void wait_for_cluster() {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

// `stages` holds, for each candidate, where its stages begin, then where the operations of each
// stage begin; behind the last of both stands the end.
extern "C" __global__ __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(THREADS, 2) void train(
    const int *stages, const Op *ops, const real *images, const real *targets, const real *shares,
    real *weights, real *gradient, real *velocity, real *work, unsigned char *codes, real *losses,
    int n_candidates, int n_steps, int n_pixels, int n_classes, int batch, double rate,
    double momentum, double dampening, double decay, int nesterov, int fresh) {
    __shared__ real shared[WARPS * CHUNK * WARP];
    extern __shared__ long long held[];
    const int candidate = blockIdx.x / BLOCKS, rank = blockIdx.x % BLOCKS;
    const int begin = stages[candidate], end = stages[candidate + 1];
    const int *operations = stages + n_candidates + 1;
    const int first = operations[begin], n_words = (operations[end] - first) * sizeof(Op) / 8;
    for (int i = threadIdx.x; i < n_words; i += THREADS)
        held[i] = ((const long long *)(ops + first))[i];
    __syncthreads();
    const Op *list = (const Op *)held;
    Memory m = {images, targets, shares, weights, gradient, velocity, work, codes, losses, batch,
                {real(rate), real(momentum), real(dampening), real(decay), nesterov != 0,
                 fresh != 0}};
    for (int step = 0; step < n_steps; ++step) {
        for (int stage = begin; stage < end; ++stage) {
            int tile = rank;
            for (int i = operations[stage]; i < operations[stage + 1]; ++i) {
                const Op &op = list[i - first];
                for (; tile < op.n_tiles; tile += BLOCKS) {
                    run(op, m, tile, shared);
                    __syncthreads();
                }
                tile -= op.n_tiles;
            }
            wait_for_cluster();
        }
        m.images += (long long)n_pixels * batch;
        m.targets += n_classes * batch;
        m.shares += batch;
        m.rule.fresh = false;
    }
}
