// Training steps of a whole population.
//
// A cluster of thread blocks trains one candidate of any topology, one step for each loaded batch.
// A step is a list of stages, see program.py. The blocks share the tiles of a stage, and wait for
// each other after it. Candidates do not wait for one another.
//
// Maps are (channel, row, column, batch) and vectors (unit, batch). The batch is last, so that
// neighbouring threads read neighbouring values. Sums are always computed in the same order, so
// that the same input gives the same bits.
//
// A step executes most of the code once, so that loading the instructions takes a large part of
// its time. Loops are only unrolled as far as needed to have enough loads in flight.
//
// `real` (float or double), THREADS, BLOCKS (of a cluster) and EPSILON (of the batch norm) are
// defined before this file.

const int WARP = 32;
const int WARPS = THREADS / WARP;
const int TAPS = 9;
const int SLICE = 16;   // channels whose kernels are held at once
const int FEW = 4;      // channels or inputs of a tile
const int INPUTS = 128; // of a tile of a dense layer's gradient, as UNITS
const int UNITS = 16;
const int FEW_UNITS = 32; // a layer with no more units has small tiles
const int SHARED = INPUTS * (WARP + 1) + UNITS * WARP; // values, enough for every operation

// The values that one load from shared memory reads.
struct __align__(16) Vector {
    real values[16 / sizeof(real)];
};

template <int N>
__device__ void load(real values[N], const real *source) {
    const int LENGTH = 16 / sizeof(real);
#pragma unroll
    for (int i = 0; i < N / LENGTH; ++i) {
        const Vector vector = ((const Vector *)source)[i];
#pragma unroll
        for (int j = 0; j < LENGTH; ++j) values[i * LENGTH + j] = vector.values[j];
    }
}

enum Kind {
    CONVOLVE,         // convolution, and pooling if there is any
    NORMALISE,        // batch norm and relu
    DENSE,
    LOSS,
    DENSE_WEIGHT,     // gradients of weight and bias
    DENSE_INPUT,      // gradient of the input
    NORMALISE_BACK,   // gradients of gamma, beta and z
    CONVOLVE_WEIGHT,
    CONVOLVE_INPUT,
    COLLECT,          // sum of a gradient that was computed in parts
    UPDATE
};

enum Pooling { AVERAGE, MAXIMUM, NONE };

// The fields of type long long are offsets: into `work` (x, dx, y, z, dy, norms, parts), into
// `weights` and `gradient` (weight, bias, gamma, beta), or into `codes`.
struct Op {
    int kind;
    int candidate;
    int n_tiles;
    int height, width;    // of the input maps
    int inputs, outputs;  // channels or units
    int pooling;
    int relu;             // whether relu follows a dense layer
    int splits;           // number of parts of the gradient of a convolution
    int ends;             // whether this is the last operation of its stage
    long long x;          // input; -1 for the batch
    long long dx;         // its gradient
    long long weight, bias;
    long long gamma, beta;
    long long y;          // output
    long long dy;         // its gradient; after NORMALISE_BACK the gradient of z
    long long z;          // input of the batch norm of a cell
    long long norms;      // mean, factor and inverse deviation of each channel
    long long parts;
    long long codes;      // pixel of each pooling window with the maximum
};

// How SGD updates the weights. The rate is that of the step.
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

// The number of values of a channel of the output.
__device__ int size_of_output(const Op &op, const Memory &m) {
    if (op.pooling == NONE) return op.height * op.width * m.batch;
    return (op.height + 1) / 2 * ((op.width + 1) / 2) * m.batch;
}

__device__ real sum_of_warp(real value) {
#pragma unroll 1
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value += __shfl_xor_sync(0xffffffff, value, offset);
    return value;
}

// Return the sum over all threads of a block to each of them.
__device__ real sum_of_block(real value, real *shared) {
    value = sum_of_warp(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    real total = 0;
    for (int i = 0; i < WARPS; ++i) total += shared[i];
    return total;
}

// The places of the 4x4 pixels of a map that the convolutions of a window read. A window is 2x2
// pixels, of which pooling makes one.
struct Patch {
    int rows[4], columns[4]; // offsets
    int inside;              // a bit for each pixel

    __device__ Patch(int row, int column, int b, int height, int width, int batch) {
        inside = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int r = 2 * row - 1 + i, c = 2 * column - 1 + i;
            rows[i] = min(max(r, 0), height - 1) * width * batch + b;
            columns[i] = min(max(c, 0), width - 1) * batch;
            if (r >= 0 && r < height) inside |= 0xf << 4 * i;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int c = 2 * column - 1 + i;
            if (c < 0 || c >= width) inside &= ~(0x1111 << i);
        }
    }

    // Pixels outside the map are zero.
    __device__ void load(real pixels[4][4], const real *map) const {
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) pixels[i][j] = map[rows[i] + columns[j]];
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (!(inside >> (4 * i + j) & 1)) pixels[i][j] = 0;
    }
};

// The mean, over the pixels of a window, of the input of each tap of a kernel. The last window of
// an odd side has one pixel only.
__device__ void average(const real pixels[4][4], bool below, bool right, real mean[TAPS]) {
    real share = (below ? real(0.5) : real(1)) * (right ? real(0.5) : real(1));
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        real rows[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) rows[j] = pixels[i][j] + (below ? pixels[i + 1][j] : real(0));
#pragma unroll
        for (int j = 0; j < 3; ++j)
            mean[3 * i + j] = share * (rows[j] + (right ? rows[j + 1] : real(0)));
    }
}

__device__ bool exceeds(real value, real most) { return value > most || value != value; }

template <Pooling POOLING>
__device__ void convolve(const Op &from, const Memory &m, int tile, real *shared) {
    const Op op = from; // in registers
    const int h = (op.height + 1) / 2, w = (op.width + 1) / 2, n = h * w * m.batch;
    const int places = (n + THREADS - 1) / THREADS, area = op.height * op.width * m.batch;
    const int PIXELS = POOLING == AVERAGE ? 1 : 4;
    const real *x = input(op, m);
#pragma unroll 1
    for (int held = -1; tile < op.n_tiles; tile += BLOCKS) {
        const int chunk = tile / places, first = chunk * FEW;
        const int at = tile % places * THREADS + threadIdx.x;
        const int place = at / m.batch, b = at - place * m.batch;
        const int row = place / w, column = place - row * w;
        const bool below = 2 * row + 1 < op.height, right = 2 * column + 1 < op.width;
        const Patch patch(row, column, b, op.height, op.width, m.batch);
        real sums[PIXELS][FEW] = {};
#pragma unroll 1
        for (int begin = 0; begin < op.inputs; begin += SLICE) {
            const int slice = min(SLICE, op.inputs - begin);
            if (held != chunk || op.inputs > SLICE) {
                __syncthreads();
#pragma unroll 1
                for (int k = threadIdx.x; k < slice * TAPS * FEW; k += THREADS) {
                    const int channel = first + k % FEW;
                    const int weight = (channel * op.inputs + begin) * TAPS + k / FEW;
                    shared[k] = channel < op.outputs ? m.weights[op.weight + weight] : real(0);
                }
                __syncthreads();
                held = chunk;
            }
            if (at >= n) continue;
#pragma unroll 1
            for (int i = 0; i < slice; ++i) {
                real pixels[4][4];
                patch.load(pixels, x + (begin + i) * area);
                const real *kernels = shared + i * TAPS * FEW;
                if (POOLING != AVERAGE) {
#pragma unroll
                    for (int tap = 0; tap < TAPS; ++tap) {
                        real weights[FEW];
                        load<FEW>(weights, kernels + tap * FEW);
#pragma unroll
                        for (int o = 0; o < FEW; ++o)
#pragma unroll
                            for (int pixel = 0; pixel < PIXELS; ++pixel)
                                sums[pixel][o] +=
                                    weights[o] *
                                    pixels[pixel / 2 + tap / 3][pixel % 2 + tap % 3];
                    }
                } else {
                    real mean[TAPS];
                    average(pixels, below, right, mean);
#pragma unroll
                    for (int tap = 0; tap < TAPS; ++tap) {
                        real weights[FEW];
                        load<FEW>(weights, kernels + tap * FEW);
#pragma unroll
                        for (int o = 0; o < FEW; ++o) sums[0][o] += weights[o] * mean[tap];
                    }
                }
            }
        }
        if (at >= n) continue;
#pragma unroll
        for (int o = 0; o < FEW; ++o) {
            if (first + o >= op.outputs) break;
            if (POOLING == NONE) {
                real *z = m.work + op.z + (first + o) * area;
#pragma unroll
                for (int pixel = 0; pixel < PIXELS; ++pixel) {
                    if ((pixel / 2 && !below) || (pixel % 2 && !right)) continue;
                    const int r = 2 * row + pixel / 2, c = 2 * column + pixel % 2;
                    z[(r * op.width + c) * m.batch + b] = sums[pixel][o];
                }
                continue;
            }
            real value = sums[0][o];
            if (POOLING == MAXIMUM) {
                unsigned char code = 0;
#pragma unroll
                for (int pixel = 1; pixel < PIXELS; ++pixel) {
                    const bool inside = (pixel / 2 == 0 || below) && (pixel % 2 == 0 || right);
                    const real other = sums[pixel][o];
                    // The first of equal values counts.
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
}

enum Norm { MEAN, FACTOR, DEVIATION };

__device__ void normalise(const Op &from, const Memory &m, int channel, real *shared) {
    const Op op = from; // in registers
    const int n = size_of_output(op, m);
    const real *z = m.work + op.z + channel * n;
    real *y = m.work + op.y + channel * n;
    const real gamma = m.weights[op.gamma + channel], beta = m.weights[op.beta + channel];
    real sum = 0, squares = 0;
#pragma unroll 8
    for (int at = threadIdx.x; at < n; at += THREADS) sum += z[at];
    const real mean = sum_of_block(sum, shared) / n;
#pragma unroll 4
    for (int at = threadIdx.x; at < n; at += THREADS) squares += (z[at] - mean) * (z[at] - mean);
    const real deviation = rsqrt(sum_of_block(squares, shared) / n + real(EPSILON));
    const real factor = gamma * deviation;
#pragma unroll 4
    for (int at = threadIdx.x; at < n; at += THREADS) {
        const real value = (z[at] - mean) * factor + beta;
        y[at] = value < 0 ? real(0) : value; // keeps nan
    }
    if (threadIdx.x) return;
    real *norms = m.work + op.norms + channel;
    norms[MEAN * op.outputs] = mean;
    norms[FACTOR * op.outputs] = factor;
    norms[DEVIATION * op.outputs] = deviation;
}

// The warps share the inputs of the same units; a lane computes one row of the batch.
template <int N, int AHEAD>
__device__ void dense(const Op &from, const Memory &m, int tile, real *shared) {
    const Op op = from; // in registers
    const int chunks = (op.outputs + N - 1) / N, first = tile % chunks * N;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int begin = tile / chunks * WARP, b = min(begin + lane, m.batch - 1);
    const int units = min(N, op.outputs - first);
    const real *weight = m.weights + op.weight + (long long)first * op.inputs;
    const real *x = input(op, m) + b;
    real sums[N] = {};
#pragma unroll AHEAD
    for (int k = warp; k < op.inputs; k += WARPS) {
        real value = x[k * m.batch];
#pragma unroll
        for (int u = 0; u < N; ++u) sums[u] += weight[min(u, units - 1) * op.inputs + k] * value;
    }
    __syncthreads();
#pragma unroll
    for (int u = 0; u < N; ++u) shared[(warp * N + u) * WARP + lane] = sums[u];
    __syncthreads();
#pragma unroll 1
    for (int u = warp; u < units; u += WARPS) {
        if (begin + lane >= m.batch) break;
        real value = m.weights[op.bias + first + u];
#pragma unroll 8
        for (int i = 0; i < WARPS; ++i) value += shared[(i * N + u) * WARP + lane];
        if (op.relu && value < 0) value = 0;
        m.work[op.y + (first + u) * m.batch + begin + lane] = value;
    }
}

// Softmax, cross-entropy and its gradient; a warp computes one row of the batch. The target is the
// negative weight of the row in the mean at its label, and zero elsewhere.
__device__ void loss(const Op &from, const Memory &m, int tile) {
    const Op op = from; // in registers
    const int lane = threadIdx.x % WARP, b = tile * WARPS + threadIdx.x / WARP;
    if (b >= m.batch) return;
    const real *logits = m.work + op.y + b;
    real most = logits[0], sum = 0, total = 0;
#pragma unroll 1
    for (int c = lane; c < op.outputs; c += WARP) most = max(most, logits[c * m.batch]);
#pragma unroll 1
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        most = max(most, __shfl_xor_sync(0xffffffff, most, offset));
#pragma unroll 1
    for (int c = lane; c < op.outputs; c += WARP) sum += exp(logits[c * m.batch] - most);
    const real logarithm = most + log(sum_of_warp(sum));
#pragma unroll 1
    for (int c = lane; c < op.outputs; c += WARP) {
        const real target = m.targets[c * m.batch + b];
        const real value = logits[c * m.batch] - logarithm;
        total += value * target;
        m.work[op.dy + c * m.batch + b] = target + exp(value) * m.shares[b];
    }
    total = sum_of_warp(total);
    if (lane == 0) m.losses[op.candidate * m.batch + b] += total;
}

// The gradient of the output of a dense layer before its relu.
__device__ real dense_slope(const Op &op, const Memory &m, int unit, int b) {
    real dy = m.work[op.dy + unit * m.batch + b];
    return op.relu && !(m.work[op.y + unit * m.batch + b] > 0) ? real(0) : dy;
}

// A lane computes one input, a warp a few units.
__device__ void dense_weight(const Op &from, const Memory &m, int tile, real *shared) {
    const Op op = from; // in registers
    const int SIDE = INPUTS / WARP;            // warps side by side
    const int OWN = UNITS / (WARPS / SIDE);    // units of a warp
    const int chunks = (op.outputs + UNITS - 1) / UNITS;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int first = tile % chunks * UNITS, begin = tile / chunks * INPUTS;
    const int own = warp / SIDE * OWN, k = warp % SIDE * WARP + lane;
    const real *source = input(op, m);
    // Gradients of the units side by side, to be read at once.
    real *x = shared + UNITS * WARP, *slopes = shared;
    real sums[OWN] = {}, bias = 0;
#pragma unroll 1
    for (int rows = 0; rows < m.batch; rows += WARP) {
        const int b = rows + lane;
        __syncthreads();
#pragma unroll 4
        for (int i = warp; i < INPUTS; i += WARPS) {
            const bool inside = begin + i < op.inputs && b < m.batch;
            x[i * (WARP + 1) + lane] = inside ? source[(begin + i) * m.batch + b] : real(0);
        }
#pragma unroll
        for (int i = warp; i < UNITS; i += WARPS) {
            const bool inside = first + i < op.outputs && b < m.batch;
            slopes[lane * UNITS + i] = inside ? dense_slope(op, m, first + i, b) : real(0);
        }
        __syncthreads();
#pragma unroll 4
        for (int i = 0; i < WARP; ++i) {
            const real value = x[k * (WARP + 1) + i];
            real weights[OWN];
            load<OWN>(weights, slopes + i * UNITS + own);
#pragma unroll
            for (int u = 0; u < OWN; ++u) sums[u] += weights[u] * value;
        }
        if (threadIdx.x < UNITS)
#pragma unroll 1
            for (int i = 0; i < WARP; ++i) bias += slopes[i * UNITS + threadIdx.x];
    }
    if (begin == 0 && threadIdx.x < UNITS && first + threadIdx.x < op.outputs)
        m.gradient[op.bias + first + threadIdx.x] = bias;
    if (begin + k >= op.inputs) return;
#pragma unroll
    for (int u = 0; u < OWN; ++u) {
        const int unit = first + own + u;
        if (unit < op.outputs)
            m.gradient[op.weight + (long long)unit * op.inputs + begin + k] = sums[u];
    }
}

// A lane computes one row of the batch, a warp a few inputs.
__device__ void dense_input(const Op &from, const Memory &m, int tile) {
    const Op op = from; // in registers
    const int chunks = (op.inputs + WARPS * FEW - 1) / (WARPS * FEW);
    const int first = (tile % chunks * WARPS + threadIdx.x / WARP) * FEW;
    const int b = tile / chunks * WARP + threadIdx.x % WARP;
    if (first >= op.inputs || b >= m.batch) return;
    const real *weights = m.weights + op.weight;
    real sums[FEW] = {};
#pragma unroll 4
    for (int unit = 0; unit < op.outputs; ++unit) {
        const real *weight = weights + (long long)unit * op.inputs;
        const real slope = dense_slope(op, m, unit, b);
#pragma unroll
        for (int i = 0; i < FEW; ++i) sums[i] += weight[min(first + i, op.inputs - 1)] * slope;
    }
#pragma unroll
    for (int i = 0; i < FEW; ++i)
        if (first + i < op.inputs) m.work[op.dx + (first + i) * m.batch + b] = sums[i];
}

__device__ void normalise_back(const Op &from, const Memory &m, int channel, real *shared) {
    const Op op = from; // in registers
    const int n = size_of_output(op, m);
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

// A tile is one input channel, a few output channels, and a part of the places.
template <Pooling POOLING>
__device__ void convolve_weight(const Op &from, const Memory &m, int tile, real *shared) {
    const Op op = from; // in registers
    const int h = (op.height + 1) / 2, w = (op.width + 1) / 2, n = h * w * m.batch;
    const int part = tile % op.splits, channel = tile / op.splits % op.inputs;
    const int first = tile / op.splits / op.inputs * FEW;
    const int length = (n + op.splits - 1) / op.splits, end = min(n, (part + 1) * length);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int SLOPES = POOLING == NONE ? 4 : 1; // of a window
    const int area = op.height * op.width * m.batch;
    const real *map = input(op, m) + channel * area;
    real sums[FEW][TAPS] = {};
#pragma unroll 1
    for (int at = part * length + threadIdx.x; at < end; at += THREADS) {
        const int place = at / m.batch, b = at - place * m.batch;
        const int row = place / w, column = place - row * w;
        const bool below = 2 * row + 1 < op.height, right = 2 * column + 1 < op.width;
        real pixels[4][4], mean[TAPS], slopes[FEW][SLOPES];
        int codes[FEW];
#pragma unroll
        for (int o = 0; o < FEW; ++o) {
            const int output = min(first + o, op.outputs - 1);
            const real *dz = m.work + op.dy + output * (POOLING == NONE ? area : n);
#pragma unroll
            for (int i = 0; i < SLOPES; ++i) {
                const bool inside = (i / 2 == 0 || below) && (i % 2 == 0 || right);
                const int r = 2 * row + i / 2, c = 2 * column + i % 2;
                const int there = POOLING == NONE ? (r * op.width + c) * m.batch + b : at;
                slopes[o][i] = inside ? dz[there] : real(0);
            }
            codes[o] = POOLING == MAXIMUM ? m.codes[op.codes + output * n + at] : 0;
        }
        Patch(row, column, b, op.height, op.width, m.batch).load(pixels, map);
        if (POOLING == AVERAGE) average(pixels, below, right, mean);
#pragma unroll
        for (int o = 0; o < FEW; ++o)
#pragma unroll
            for (int tap = 0; tap < TAPS; ++tap) {
                if (POOLING == AVERAGE) {
                    sums[o][tap] += slopes[o][0] * mean[tap];
                } else {
#pragma unroll
                    for (int pixel = 0; pixel < 4; ++pixel) {
                        const bool takes = POOLING == NONE || codes[o] == pixel;
                        sums[o][tap] += (takes ? slopes[o][pixel % SLOPES] : real(0)) *
                                        pixels[pixel / 2 + tap / 3][pixel % 2 + tap % 3];
                    }
                }
            }
    }
    const int size = op.outputs * op.inputs * TAPS;
    real *target = m.gradient + op.weight;
    if (op.splits > 1) target = m.work + op.parts + part * size;
#pragma unroll 1
    for (int o = 0; o < FEW && first + o < op.outputs; ++o) {
        __syncthreads();
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap) {
            shared[tap * THREADS + threadIdx.x] = sums[0][tap];
            for (int next = 1; next < FEW; ++next) sums[next - 1][tap] = sums[next][tap];
        }
        __syncthreads();
#pragma unroll 1
        for (int tap = warp; tap < TAPS; tap += WARPS) {
            real value = 0;
#pragma unroll 8
            for (int i = 0; i < WARPS; ++i) value += shared[tap * THREADS + i * WARP + lane];
            value = sum_of_warp(value);
            if (lane == 0) target[((first + o) * op.inputs + channel) * TAPS + tap] = value;
        }
    }
}

// With average pooling, one or two taps of each row and column of the kernel connect a pixel to a
// window. These are their sums.
const int SUMS = 5;

__device__ real sum_of_taps(const real *kernel, int sum) {
    const int row = sum / SUMS, column = sum % SUMS;
    real total = 0;
#pragma unroll 1
    for (int i = row < 3 ? row : row - 3; i <= (row < 3 ? row : row - 2); ++i)
#pragma unroll 1
        for (int j = column < 3 ? column : column - 3; j <= (column < 3 ? column : column - 2); ++j)
            total += kernel[3 * i + j];
    return total;
}

// Gradients before the max pooling, at the 4x4 pixels that the taps of a window reach. The first of
// the four rows is the second row of the window above, and so on.
__device__ void unpool(
    const unsigned char *codes, const int around[3][3], const real slopes[3][3],
    real pixels[4][4]) {
#pragma unroll
    for (int p = 0; p < 4; ++p)
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            const int u = (p + 1) / 2, v = (q + 1) / 2;
            const int own = (p + 1) % 2 * 2 + (q + 1) % 2;
            pixels[p][q] = codes[around[u][v]] == own ? slopes[u][v] : real(0);
        }
}

// A thread computes the 2x2 pixels of a window in a few input channels.
template <Pooling POOLING>
__device__ void convolve_input(const Op &from, const Memory &m, int tile, real *shared) {
    const Op op = from; // in registers
    const int NUMBERS = POOLING == AVERAGE ? SUMS * SUMS : TAPS; // of a kernel
    const int h = (op.height + 1) / 2, w = (op.width + 1) / 2, n = h * w * m.batch;
    const int places = (n + THREADS - 1) / THREADS, area = op.height * op.width * m.batch;
#pragma unroll 1
    for (int held = -1; tile < op.n_tiles; tile += BLOCKS) {
        const int chunk = tile / places, first = chunk * FEW;
        const int at = tile % places * THREADS + threadIdx.x;
        const int place = at / m.batch, b = at - place * m.batch;
        const int row = place / w, column = place - row * w;
        const bool below = 2 * row + 1 < op.height, right = 2 * column + 1 < op.width;
        const Patch patch(row, column, b, op.height, op.width, m.batch);
        int around[3][3]; // the windows around
        real shares[3][3];
#pragma unroll
        for (int u = 0; u < 3; ++u)
#pragma unroll
            for (int v = 0; v < 3; ++v) {
                const int r = row - 1 + u, c = column - 1 + v;
                const bool inside = r >= 0 && r < h && c >= 0 && c < w;
                around[u][v] = inside ? (r * w + c) * m.batch + b : at;
                shares[u][v] = inside ? real(1) : real(0);
                if (POOLING == AVERAGE && 2 * r + 1 < op.height) shares[u][v] /= 2;
                if (POOLING == AVERAGE && 2 * c + 1 < op.width) shares[u][v] /= 2;
            }
        // The taps, by row or column, that connect pixel p to its first and second window.
        const int rows[2][2] = {{2, below ? 3 : 1}, {4, 0}};
        const int columns[2][2] = {{2, right ? 3 : 1}, {4, 0}};
        real sums[FEW][4] = {};
#pragma unroll 1
        for (int begin = 0; begin < op.outputs; begin += SLICE) {
            const int slice = min(SLICE, op.outputs - begin);
            if (held != chunk || op.outputs > SLICE) {
                __syncthreads();
#pragma unroll 1
                for (int k = threadIdx.x; k < slice * FEW * NUMBERS; k += THREADS) {
                    const int channel = first + k % FEW, number = k / FEW % NUMBERS;
                    const int out = begin + k / (NUMBERS * FEW);
                    const real *kernel =
                        m.weights + op.weight + (out * op.inputs + channel) * TAPS;
                    if (channel >= op.inputs) shared[k] = 0;
                    else if (POOLING == AVERAGE) shared[k] = sum_of_taps(kernel, number);
                    else shared[k] = kernel[number];
                }
                __syncthreads();
                held = chunk;
            }
            if (at >= n) continue;
#pragma unroll 1
            for (int i = 0; i < slice; ++i) {
                const real *dz = m.work + op.dy + (begin + i) * (POOLING == NONE ? area : n);
                const real *kernels = shared + i * FEW * NUMBERS;
                real slopes[3][3];
#pragma unroll
                for (int u = 0; u < 3; ++u)
#pragma unroll
                    for (int v = 0; v < 3; ++v)
                        if (POOLING != NONE) slopes[u][v] = dz[around[u][v]] * shares[u][v];
                if (POOLING != AVERAGE) {
                    real pixels[4][4];
                    if (POOLING == NONE) patch.load(pixels, dz);
                    else unpool(m.codes + op.codes + (begin + i) * n, around, slopes, pixels);
#pragma unroll
                    for (int tap = 0; tap < TAPS; ++tap) {
                        real weights[FEW];
                        load<FEW>(weights, kernels + tap * FEW);
#pragma unroll
                        for (int c = 0; c < FEW; ++c)
#pragma unroll
                            for (int pixel = 0; pixel < 4; ++pixel)
                                sums[c][pixel] +=
                                    weights[c] *
                                    pixels[pixel / 2 + 2 - tap / 3][pixel % 2 + 2 - tap % 3];
                    }
                } else {
#pragma unroll
                    for (int pixel = 0; pixel < 4; ++pixel)
#pragma unroll
                        for (int u = 0; u < 2; ++u)
#pragma unroll
                            for (int v = 0; v < 2; ++v) {
                                const int number =
                                    rows[pixel / 2][u] * SUMS + columns[pixel % 2][v];
                                real weights[FEW];
                                load<FEW>(weights, kernels + number * FEW);
#pragma unroll
                                for (int c = 0; c < FEW; ++c)
                                    sums[c][pixel] +=
                                        weights[c] * slopes[pixel / 2 + u][pixel % 2 + v];
                            }
                }
            }
        }
        if (at >= n) continue;
#pragma unroll
        for (int c = 0; c < FEW; ++c) {
            if (first + c >= op.inputs) break;
#pragma unroll
            for (int pixel = 0; pixel < 4; ++pixel) {
                if ((pixel / 2 && !below) || (pixel % 2 && !right)) continue;
                const int r = 2 * row + pixel / 2, k = 2 * column + pixel % 2;
                const int to = (((first + c) * op.height + r) * op.width + k) * m.batch + b;
                m.work[op.dx + to] = sums[c][pixel];
            }
        }
    }
}

// The gradient of weight number `at` of an operation, which may have been computed in parts.
__device__ real gradient_of(const Op &op, const Memory &m, int n, int at) {
    if (op.splits == 1) return m.gradient[op.weight + at];
    real total = 0;
#pragma unroll 4
    for (int part = 0; part < op.splits; ++part) total += m.work[op.parts + part * n + at];
    return total;
}

// `inputs` is the number of weights, also in an update.
__device__ void collect(const Op &from, const Memory &m, int tile) {
    const Op op = from; // in registers
    const int at = tile * THREADS + threadIdx.x;
    if (at < op.inputs) m.gradient[op.weight + at] = gradient_of(op, m, op.inputs, at);
}

// The same update as that of torch.optim.SGD.
__device__ void update(const Op &from, const Memory &m, int tile) {
    const Op op = from; // in registers
    const Rule &rule = m.rule;
    const int at = tile * THREADS + threadIdx.x;
    if (at >= op.inputs) return;
    const real weight = m.weights[op.weight + at];
    real slope = gradient_of(op, m, op.inputs, at) + rule.decay * weight;
    if (rule.momentum != 0) {
        real &velocity = m.velocity[op.weight + at];
        const real pull = rule.fresh ? slope : (1 - rule.dampening) * slope;
        velocity = rule.fresh ? pull : rule.momentum * velocity + pull;
        slope = rule.nesterov ? slope + rule.momentum * velocity : velocity;
    }
    m.weights[op.weight + at] = weight - rule.rate * slope;
}

__device__ void run_tile(const Op &op, const Memory &m, int tile, real *shared) {
    switch (op.kind) {
    case NORMALISE: normalise(op, m, tile, shared); break;
    case DENSE:
        if (op.outputs <= FEW_UNITS) dense<2, 8>(op, m, tile, shared);
        else dense<8, 4>(op, m, tile, shared);
        break;
    case LOSS: loss(op, m, tile); break;
    case DENSE_WEIGHT: dense_weight(op, m, tile, shared); break;
    case DENSE_INPUT: dense_input(op, m, tile); break;
    case NORMALISE_BACK: normalise_back(op, m, tile, shared); break;
    case CONVOLVE_WEIGHT:
        if (op.pooling == AVERAGE) convolve_weight<AVERAGE>(op, m, tile, shared);
        else if (op.pooling == MAXIMUM) convolve_weight<MAXIMUM>(op, m, tile, shared);
        else convolve_weight<NONE>(op, m, tile, shared);
        break;
    case COLLECT: collect(op, m, tile); break;
    case UPDATE: update(op, m, tile); break;
    }
}

// The tiles of an operation that this block computes.
__device__ void run(const Op &op, const Memory &m, int tile, real *shared) {
    if (op.kind == CONVOLVE) {
        if (op.pooling == AVERAGE) convolve<AVERAGE>(op, m, tile, shared);
        else if (op.pooling == MAXIMUM) convolve<MAXIMUM>(op, m, tile, shared);
        else convolve<NONE>(op, m, tile, shared);
    } else if (op.kind == CONVOLVE_INPUT) {
        if (op.pooling == AVERAGE) convolve_input<AVERAGE>(op, m, tile, shared);
        else if (op.pooling == MAXIMUM) convolve_input<MAXIMUM>(op, m, tile, shared);
        else convolve_input<NONE>(op, m, tile, shared);
    } else {
#pragma unroll 1
        for (; tile < op.n_tiles; tile += BLOCKS) run_tile(op, m, tile, shared);
    }
}

// After it, every block of the cluster sees the values that the others have written.
__device__ void wait_for_cluster() {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

// `begins` holds where the operations of each candidate begin, and where those of the last end.
extern "C" __global__ __cluster_dims__(BLOCKS, 1, 1)
__launch_bounds__(THREADS, 512 / THREADS) void train(
    const int *begins, const Op *ops, const real *images, const real *targets, const real *shares,
    const double *rates, real *weights, real *gradient, real *velocity, real *work,
    unsigned char *codes, real *losses, int n_steps, int n_pixels, int n_classes, int batch,
    double momentum, double dampening, double decay, int nesterov, int fresh) {
    __shared__ __align__(16) real shared[SHARED];
    extern __shared__ long long held[];
    const int candidate = blockIdx.x / BLOCKS, rank = blockIdx.x % BLOCKS;
    const int n_ops = begins[candidate + 1] - begins[candidate];
    const long long *words = (const long long *)(ops + begins[candidate]);
#pragma unroll 1
    for (int i = threadIdx.x; i < n_ops * sizeof(Op) / 8; i += THREADS) held[i] = words[i];
    __syncthreads();
    Memory m = {images, targets, shares, weights, gradient, velocity, work, codes, losses, batch,
                {0, real(momentum), real(dampening), real(decay), nesterov != 0, fresh != 0}};
#pragma unroll 1
    for (int step = 0; step < n_steps; ++step) {
        m.rule.rate = real(rates[step]);
        int tile = rank;
#pragma unroll 1
        for (int i = 0; i < n_ops; ++i) {
            const Op &op = ((const Op *)held)[i];
            if (tile < op.n_tiles) run(op, m, tile, shared);
            // Whose turn it is goes on from operation to operation.
            tile = (tile + BLOCKS - op.n_tiles % BLOCKS) % BLOCKS;
            if (op.ends) {
                wait_for_cluster();
                tile = rank;
            }
        }
        m.images += (long long)n_pixels * batch;
        m.targets += n_classes * batch;
        m.shares += batch;
        m.rule.fresh = false;
    }
}
