// What CUDA code needs to run on a CPU. The threads of a cluster are fibers. A warp, drawn at
// random, runs to the next barrier of its block before another warp runs, so that what misses a
// barrier reads or writes too early. Memory begins with all bits set.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __cluster_dims__(...)

using std::exp;
using std::log;
using std::max;
using std::min;

template <class T> T rsqrt(T value) { return 1 / std::sqrt(value); }

enum Wait { NOTHING, LANES, BLOCK, CLUSTER, END };

const int LANES_OF_WARP = 32;
const size_t STACK = 64 * 1024, STATIC = 64 * 1024, DYNAMIC = 64 * 1024;

struct alignas(16) Shared {
    char fixed[STATIC], dynamic[DYNAMIC];
    double lanes[THREADS];
};

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    Wait wait = NOTHING;
    int block, thread;
};

struct Index {
    int x;
};

static Index threadIdx, blockIdx; // of the fiber that runs
static int first_block;
static ucontext_t scheduler;
static Fiber *running;
static std::vector<Shared> blocks;
static std::function<void()> kernel;

static Shared &own_block() { return blocks[running->block]; }

static void wait_for(Wait wait) {
    running->wait = wait;
    swapcontext(&running->context, &scheduler);
}

static void __syncthreads() { wait_for(BLOCK); }

template <class T> T __shfl_xor_sync(unsigned, T value, int offset) {
    double *lanes = own_block().lanes;
    lanes[running->thread] = value;
    wait_for(LANES);
    value = lanes[running->thread ^ offset];
    wait_for(LANES);
    return value;
}

static void run_kernel() {
    kernel();
    running->wait = END;
}

static void run(Fiber &fiber) {
    running = &fiber;
    threadIdx = {fiber.thread}, blockIdx = {first_block + fiber.block};
    swapcontext(&scheduler, &fiber.context);
}

// Let these fibers go on if all of them wait for each other.
static bool release(std::vector<Fiber> &fibers, int begin, int n, Wait wait) {
    const auto first = fibers.begin() + begin, last = first + n;
    if (!std::all_of(first, last, [=](Fiber &f) { return f.wait == wait; })) return false;
    for (auto f = first; f != last; ++f) f->wait = NOTHING;
    return true;
}

// Run a cluster of blocks. Return whether all threads have come to the end.
static bool run_cluster(int n_blocks, std::mt19937 &random) {
    const int n = n_blocks * THREADS;
    std::vector<Fiber> fibers(n);
    std::vector<int> warps;
    for (int i = 0; i < n; i += LANES_OF_WARP) warps.push_back(i);
    blocks.resize(n_blocks);
    std::memset((void *)blocks.data(), 255, n_blocks * sizeof(Shared));
    for (int i = 0; i < n; ++i) {
        Fiber &f = fibers[i];
        std::memset(f.stack.get(), 255, STACK);
        f.block = i / THREADS, f.thread = i % THREADS;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get(), f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = &scheduler;
        makecontext(&f.context, run_kernel, 0);
    }
    for (bool goes_on = true; goes_on;) {
        std::shuffle(warps.begin(), warps.end(), random);
        for (int warp : warps) {
            do {
                for (int i = warp; i < warp + LANES_OF_WARP; ++i)
                    if (fibers[i].wait == NOTHING) run(fibers[i]);
            } while (release(fibers, warp, LANES_OF_WARP, LANES));
        }
        goes_on = release(fibers, 0, n, CLUSTER);
        for (int i = 0; i < n; i += THREADS) goes_on |= release(fibers, i, THREADS, BLOCK);
    }
    return std::all_of(fibers.begin(), fibers.end(), [](Fiber &f) { return f.wait == END; });
}

static bool run_grid(int n_clusters, int n_blocks, unsigned seed, std::function<void()> call) {
    std::mt19937 random(seed);
    kernel = call;
    for (int i = 0; i < n_clusters; ++i) {
        first_block = i * n_blocks;
        if (!run_cluster(n_blocks, random)) return false;
    }
    return true;
}
