// Trains and evaluates the networks of a session in threads.
//
// A part of the training is divided into phases: some batches, or some of the validation rows. In
// each phase, every network is a task, and so is every batch of the next phase that has to be
// loaded. A task is done by whichever thread is free. Networks do not share memory, so the results
// do not depend on the number of threads.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

#include "dispatch.h"
#include "interface.h"

namespace skectonas {
namespace {

// Lets this thread take numbers that are not zero, but smaller than any normal number, for zero. The
// weights of units that are never active decay to such numbers, and a processor takes many times as
// long for them.
void flush_denormals() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_setcsr(_mm_getcsr() | 0x8040);  // of results, and of operands
#elif defined(__aarch64__)
    uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    asm volatile("msr fpcr, %0" : : "r"(control | (uint64_t(1) << 24)));
#endif
}

constexpr size_t CACHE_LINE = 64;
constexpr size_t CALIBRATION_BYTES = size_t(64) << 20;  // of loaded batches that are kept

// Zeroed memory on a cache line.
class Buffer {
  public:
    explicit Buffer(size_t size = 0) : size_(size) {
        if (!size) return;
        raw_.reset(new char[size + CACHE_LINE]());
        start_ = raw_.get() + (CACHE_LINE - (uintptr_t)raw_.get() % CACHE_LINE) % CACHE_LINE;
    }
    char *get() const { return start_; }
    size_t size() const { return size_; }

  private:
    size_t size_;
    std::unique_ptr<char[]> raw_;
    char *start_ = nullptr;
};

struct Worker {
    Buffer scratch, loading;
    Buffer maps;           // of all calibration rows
    Buffer batch;          // of calibration rows, if they are not kept
    void *last = nullptr;  // the net that used the scratch last
};

struct Phase {
    enum Kind { PREPARE, TRAIN, CALIBRATE, VALIDATE } kind;  // PREPARE only loads for the next one
    int64_t first_row, n_rows;                               // of this part
    int64_t first_batch, n_batches;
};

struct Task {
    enum { LOAD, NETWORK } kind;
    int64_t index;
};

class Session {
  public:
    Session(const Kernels &kernels, const Input &input, const Rule &rule, const Rows &calibration, Network *networks, int n, int n_threads)
        : kernels_(kernels), input_(input), rule_(rule), calibration_(calibration), networks_(networks) {
        offset_.assign(input.offset, input.offset + input.channels);
        scale_.assign(input.scale, input.scale + input.channels);
        input_.offset = offset_.data();
        input_.scale = scale_.data();
        size_t scratch = 0;
        for (int i = 0; i < n; i++) {
            inputs_ |= kernels.inputs_of(networks[i]);
            nets_.emplace_back(kernels.make_net(input_, networks[i]), kernels.free_net);
            if (!nets_.back()) throw std::bad_alloc();
            scratch = std::max(scratch, kernels.scratch_size(nets_.back().get()));
            const size_t state = input_.is_double ? 8 * networks[i].size : 4 * networks[i].size;
            first_.emplace_back(rule.kind == MOMENTUM || rule.kind == ADAM ? state : 0);
            second_.emplace_back(rule.kind == ADAM ? state : 0);
        }
        order_.resize(n);
        for (int i = 0; i < n; i++) order_[i] = i;
        // The longest tasks first, so that the threads end together.
        std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return kernels_.cost(nets_[a].get()) > kernels_.cost(nets_[b].get()); });
        const size_t batch = kernels_.batch_size(input_, inputs_);
        for (int i = 0; i < 2 * input_.steps_at_once; i++) batches_.emplace_back(batch);
        rows_of_slot_ = (input_.batch + kernels_.lanes - 1) / kernels_.lanes * kernels_.lanes;
        workers_.resize(n_threads);
        for (Worker &w : workers_) {
            w.scratch = Buffer(scratch);
            w.loading = Buffer(kernels_.loading_size(input_));
            kernels_.prepare_loading(input_, inputs_, w.loading.get());
        }
        tasks_.reserve(n + input_.steps_at_once);  // threads cannot handle a lack of memory there
        start(n_threads);
    }

    ~Session() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            closes_ = true;
        }
        wake_.notify_all();
        for (std::thread &thread : threads_) thread.join();
    }

    void begin(const Part &part) {
        std::lock_guard<std::mutex> lock(mutex_);
        part_ = part;
        phases_.assign(1, {Phase::PREPARE, 0, 0, 0, 0});
        const int64_t at_once = input_.steps_at_once;
        for (int64_t step = 0; step < part.n_steps; step += at_once) {
            const int64_t n = std::min(at_once, part.n_steps - step);
            phases_.push_back({Phase::TRAIN, step * input_.batch, n * input_.batch, step, n});
        }
        if (part.calibrates) phases_.push_back({Phase::CALIBRATE, 0, 0, 0, 0});
        for (int64_t row = 0; row < part.validation.n; row += at_once * rows_of_slot_) {
            const int64_t n = std::min(at_once * rows_of_slot_, part.validation.n - row);
            phases_.push_back({Phase::VALIDATE, row, n, row / rows_of_slot_, (n + rows_of_slot_ - 1) / rows_of_slot_});
        }
        phase_ = -1;
        is_busy_ = true;
        next_phase();
    }

    // Returns whether the part is done; 2 if there was not enough memory.
    int wait(double seconds) {
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return !is_busy_; });
        return is_busy_ ? 0 : has_failed_ ? 2 : 1;
    }

  private:
    // Fewer threads than wanted will do, as long as there is one.
    void start(int n_threads) {
        threads_.reserve(n_threads);
        for (int i = 0; i < n_threads; i++) {
            try {
                threads_.emplace_back([this, i] { work(workers_[i]); });
            } catch (const std::exception &) {
                if (threads_.empty()) throw;
                break;
            }
        }
    }

    // Fills the tasks of the next phase that has any. The lock is held.
    void next_phase() {
        tasks_.clear();
        next_ = 0;
        do {
            if (++phase_ == (int64_t)phases_.size() || has_failed_) {
                is_busy_ = false;
                done_.notify_all();
                return;
            }
            for (int i : order_)
                if (takes_part(i, phases_[phase_])) tasks_.push_back({Task::NETWORK, i});
            if (phase_ + 1 < (int64_t)phases_.size())
                for (int64_t i = 0; i < phases_[phase_ + 1].n_batches; i++) tasks_.push_back({Task::LOAD, i});
        } while (tasks_.empty());
        unfinished_ = tasks_.size();
        wake_.notify_all();
    }

    bool takes_part(int i, const Phase &p) const {
        if (p.kind == Phase::PREPARE) return false;
        if (p.kind == Phase::TRAIN) return networks_[i].n_steps > part_.first_step + p.first_batch;
        return networks_[i].is_due;
    }

    void work(Worker &worker) {
        flush_denormals();
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return closes_ || next_ < tasks_.size(); });
            if (closes_) return;
            const Task task = tasks_[next_++];
            const int64_t phase = phase_;
            lock.unlock();
            bool succeeds = true;
            try {
                if (task.kind == Task::LOAD)
                    load(worker, phase + 1, task.index);
                else
                    run(worker, phase, (int)task.index);
            } catch (const std::bad_alloc &) {
                succeeds = false;
            }
            lock.lock();
            if (!succeeds) has_failed_ = true;
            if (--unfinished_ == 0) next_phase();
        }
    }

    char *slot(int64_t phase, int64_t i) { return batches_[(phase % 2) * input_.steps_at_once + i].get(); }

    void load(Worker &worker, int64_t phase, int64_t i) {
        const Phase &p = phases_[phase];
        const bool trains = p.kind == Phase::TRAIN;
        const int64_t rows = trains ? input_.batch : rows_of_slot_;
        kernels_.load(input_, inputs_, trains ? part_.train : part_.validation, p.first_row + i * rows, std::min(rows, p.n_rows - i * rows), slot(phase, i),
                      worker.loading.get());
    }

    void run(Worker &worker, int64_t phase, int i) {
        const Phase &p = phases_[phase];
        void *net = nets_[i].get();
        kernels_.move(net, worker.scratch.get(), worker.last != net);
        worker.last = net;
        if (p.kind == Phase::TRAIN)
            train(phase, i);
        else if (p.kind == Phase::CALIBRATE)
            calibrate(worker, i);
        else
            for (int64_t k = 0; k < p.n_batches; k++)
                kernels_.infer(net, slot(phase, k), part_.first_row + p.first_row + k * rows_of_slot_, networks_[i]);
    }

    void train(int64_t phase, int i) {
        const Phase &p = phases_[phase];
        Network &n = networks_[i];
        for (int64_t k = 0; k < p.n_batches; k++) {
            const int64_t here = p.first_batch + k, step = part_.first_step + here;
            if (step >= n.n_steps) break;
            const Update update{rule_, part_.rates[here], step, first_[i].get(), second_[i].get()};
            kernels_.train(nets_[i].get(), slot(phase, k), update, &n.loss);
            const double rate = step + 1 == n.n_steps ? n.last_rate : part_.snapshots[here];
            if (rate > 0) kernels_.average(n, rate);
        }
    }

    void calibrate(Worker &worker, int i) {
        if (!networks_[i].n_cells) return;
        const int64_t n = (calibration_.n + rows_of_slot_ - 1) / rows_of_slot_;
        const size_t size = kernels_.calibration_size(nets_[i].get(), n), batch = kernels_.batch_size(input_, inputs_);
        if (worker.maps.size() < size) {
            worker.maps = Buffer();  // or there would be two for a moment
            worker.maps = Buffer(size);
        }
        struct Context {
            Session *session;
            Worker *worker;
        } context{this, &worker};
        if (n * batch > CALIBRATION_BYTES) {
            if (!worker.batch.size()) worker.batch = Buffer(batch);
        } else
            keep_calibration(worker, n, batch);
        const Batches batches{&context, [](void *c, int64_t k) -> const void * { return ((Context *)c)->session->calibration_batch(*((Context *)c)->worker, k); }, n,
                              calibration_.n};
        kernels_.calibrate(nets_[i].get(), worker.maps.get(), batches);
    }

    void keep_calibration(Worker &worker, int64_t n, size_t size) {
        std::lock_guard<std::mutex> lock(calibration_mutex_);
        for (int64_t k = (int64_t)calibration_batches_.size(); k < n; k++) {
            calibration_batches_.emplace_back(size);
            load_calibration(worker, k, calibration_batches_.back().get());
        }
    }

    const void *calibration_batch(Worker &worker, int64_t k) {
        if (!worker.batch.size()) return calibration_batches_[k].get();
        load_calibration(worker, k, worker.batch.get());
        return worker.batch.get();
    }

    void load_calibration(Worker &worker, int64_t k, char *batch) {
        const int64_t first = k * rows_of_slot_;
        kernels_.load(input_, inputs_, calibration_, first, std::min(rows_of_slot_, calibration_.n - first), batch, worker.loading.get());
    }

    const Kernels &kernels_;
    Input input_;
    const Rule rule_;
    const Rows calibration_;
    Network *networks_;
    std::vector<double> offset_, scale_;
    int32_t inputs_ = 0;
    int64_t rows_of_slot_;
    std::vector<std::unique_ptr<void, void (*)(void *)>> nets_;
    std::vector<Buffer> first_, second_, batches_, calibration_batches_;
    std::vector<int> order_;

    std::mutex mutex_, calibration_mutex_;
    std::condition_variable wake_, done_;
    Part part_{};
    std::vector<Phase> phases_;
    std::vector<Task> tasks_;
    int64_t phase_ = -1;
    size_t next_ = 0, unfinished_ = 0;
    bool is_busy_ = false, has_failed_ = false, closes_ = false;
    std::vector<Worker> workers_;
    std::vector<std::thread> threads_;
};

}  // namespace
}  // namespace skectonas

using skectonas::Session;

// Returns a session. `networks` has to live as long. It is null if there is not enough memory, or if
// no thread can be started, as `lacks_thread` says.
SKECTONAS_EXPORT void *skectonas_open(const char *variant, const skectonas::Input *input, const skectonas::Rule *rule, const skectonas::Rows *calibration,
                                      skectonas::Network *networks, int32_t n, int32_t n_threads, int32_t *lacks_thread) {
    *lacks_thread = 0;
    try {
        const skectonas::Kernels *kernels = skectonas::find_kernels(variant, input->is_double, input->batch);
        return kernels ? new Session(*kernels, *input, *rule, *calibration, networks, n, n_threads) : nullptr;
    } catch (const std::system_error &) {
        *lacks_thread = 1;
        return nullptr;
    } catch (const std::exception &) {
        return nullptr;
    }
}

// Bytes that a session takes besides the weights: for each of its threads, and once for all networks
// that read the same. What is small in any case is left out.
SKECTONAS_EXPORT void skectonas_needs(const char *variant, const skectonas::Input *input, const skectonas::Network *network, int64_t calibration_rows,
                                      int64_t *of_thread, int64_t *of_session) {
    *of_thread = *of_session = 0;
    const skectonas::Kernels *kernels = skectonas::find_kernels(variant, input->is_double, input->batch);
    void *net = kernels ? kernels->make_net(*input, *network) : nullptr;
    if (!net) return;
    const int64_t rows = (input->batch + kernels->lanes - 1) / kernels->lanes * kernels->lanes, n = (calibration_rows + rows - 1) / rows;
    const int64_t batch = kernels->batch_size(*input, kernels->inputs_of(*network));
    *of_thread = kernels->scratch_size(net) + kernels->loading_size(*input);
    *of_session = 2 * input->steps_at_once * batch;
    if (network->n_cells) {
        const bool are_kept = n * batch <= (int64_t)skectonas::CALIBRATION_BYTES;
        *of_thread += kernels->calibration_size(net, n) + (are_kept ? 0 : batch);
        *of_session += are_kept ? n * batch : 0;
    }
    kernels->free_net(net);
}

// Begins a part in the background.
SKECTONAS_EXPORT int32_t skectonas_begin(void *session, const skectonas::Part *part) {
    try {
        ((Session *)session)->begin(*part);
        return 1;
    } catch (const std::exception &) {
        return 0;
    }
}

SKECTONAS_EXPORT int32_t skectonas_wait(void *session, double seconds) { return ((Session *)session)->wait(seconds); }

// Waits for tasks that are running, and drops the others.
SKECTONAS_EXPORT void skectonas_close(void *session) { delete (Session *)session; }
