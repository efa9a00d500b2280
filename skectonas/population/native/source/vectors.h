// Vectors of the instruction set that a file is compiled for, by the extensions of gcc and clang.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))
#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define UNROLL(n) PRAGMA(clang loop unroll(full))
#else
#define UNROLL(n) PRAGMA(GCC unroll n)
#endif

namespace skectonas {
namespace SKECTONAS_ISA {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

// Numbers of accumulators that fit in the registers: 32 registers with AVX-512 and NEON, 16 else.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr bool MANY_REGISTERS = true;
#else
constexpr bool MANY_REGISTERS = false;
#endif

template <class T> struct Types;
template <> struct Types<float> {
    typedef float Vector __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES), may_alias));
    typedef float Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
    typedef int32_t Bits __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES), may_alias));
};
template <> struct Types<double> {
    typedef double Vector __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES), may_alias));
    typedef double Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
    typedef int64_t Bits __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES), may_alias));
};
template <class T> using Vector = typename Types<T>::Vector;
template <class T> using Bits = typename Types<T>::Bits;
template <class T> constexpr int WIDTH = VECTOR_BYTES / sizeof(T);

template <class T> INLINE Vector<T> all(T x) { return x - Vector<T>{}; }
template <class T> INLINE Vector<T> load(const T *p) { return *(const Vector<T> *)p; }
template <class T> INLINE Vector<T> load_any(const T *p) { return *(const typename Types<T>::Unaligned *)p; }
template <class T> INLINE void store(T *p, Vector<T> x) { *(Vector<T> *)p = x; }
// A vector that stays in a register: gcc would load it again for each of several products.
template <class V> INLINE V held(V x) {
#if defined(__x86_64__)
    asm("" : "+v"(x));
#elif defined(__aarch64__)
    asm("" : "+w"(x));
#endif
    return x;
}
// The second one if either is nan.
template <class V> INLINE V larger(V a, V b) { return a > b ? a : b; }
template <class V> INLINE V relu(V x) { return larger(V{}, x); }

template <class T> INLINE T sum_of(Vector<T> x) {
    T sum = 0;
    for (int i = 0; i < WIDTH<T>; i++) sum += x[i];
    return sum;
}
#if defined(__AVX512F__)
template <> inline __attribute__((always_inline)) float sum_of<float>(Vector<float> x) { return _mm512_reduce_add_ps((__m512)x); }
template <> inline __attribute__((always_inline)) double sum_of<double>(Vector<double> x) { return _mm512_reduce_add_pd((__m512d)x); }
#endif

template <class T> INLINE Vector<T> root(Vector<T> x) {
#if defined(__clang__)
    return __builtin_elementwise_sqrt(x);
#else
    for (int i = 0; i < WIDTH<T>; i++) x[i] = sizeof(T) == 4 ? __builtin_sqrtf(x[i]) : __builtin_sqrt(x[i]);
    return x;
#endif
}

// One truth value for each lane: a bit with AVX-512, elsewhere a lane of ones.
#if defined(__AVX512F__)
template <class T> struct MaskOf;
template <> struct MaskOf<float> { typedef __mmask16 type; };
template <> struct MaskOf<double> { typedef __mmask8 type; };
template <class T> using Mask = typename MaskOf<T>::type;
INLINE Mask<float> greater(Vector<float> a, Vector<float> b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
INLINE Mask<double> greater(Vector<double> a, Vector<double> b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ); }
INLINE Vector<float> choose(Mask<float> m, Vector<float> yes, Vector<float> no) { return (Vector<float>)_mm512_mask_blend_ps(m, (__m512)no, (__m512)yes); }
INLINE Vector<double> choose(Mask<double> m, Vector<double> yes, Vector<double> no) { return (Vector<double>)_mm512_mask_blend_pd(m, (__m512d)no, (__m512d)yes); }
INLINE Vector<float> keep(Mask<float> m, Vector<float> x) { return (Vector<float>)_mm512_maskz_mov_ps(m, (__m512)x); }
INLINE Vector<double> keep(Mask<double> m, Vector<double> x) { return (Vector<double>)_mm512_maskz_mov_pd(m, (__m512d)x); }
template <class M> INLINE M choose_mask(M m, M yes, M no) { return (M)((m & yes) | (~m & no)); }
#else
template <class T> using Mask = Bits<T>;
template <class V> INLINE auto greater(V a, V b) { return a > b; }
template <class M, class V> INLINE V choose(M m, V yes, V no) { return m ? yes : no; }
template <class M, class V> INLINE V keep(M m, V x) { return (V)(m & (M)x); }
template <class M> INLINE M choose_mask(M m, M yes, M no) { return (m & yes) | (~m & no); }
#endif

// Exchanges parts of two vectors: the lanes whose number has the bit S are those of `a` before, and the
// others are those of `b` after.
template <class T, int S, int... L> INLINE void exchange_parts(Vector<T> &a, Vector<T> &b, std::integer_sequence<int, L...>) {
    constexpr int N = WIDTH<T>;
    const Vector<T> first = a, second = b;
#if defined(__clang__) || __GNUC__ >= 12
    a = __builtin_shufflevector(first, second, ((L & S) ? N + L - S : L)...);
    b = __builtin_shufflevector(first, second, ((L & S) ? N + L : L + S)...);
#else
    a = __builtin_shuffle(first, second, Bits<T>{((L & S) ? N + L - S : L)...});
    b = __builtin_shuffle(first, second, Bits<T>{((L & S) ? N + L : L + S)...});
#endif
}
template <class T> using Lanes = std::make_integer_sequence<int, WIDTH<T>>;

// Transposes a square block, by exchanging halves, quarters and so on.
template <class T, int S = WIDTH<T> / 2> INLINE void transpose_block(Vector<T> *rows) {
    UNROLL(16)
    for (int k = 0; k < WIDTH<T>; k++)
        if (!(k & S)) exchange_parts<T, S>(rows[k], rows[k + S], Lanes<T>{});
    if constexpr (S > 1) transpose_block<T, S / 2>(rows);
}

// Adds up the lanes of each row of a square block: that of row i becomes lane i of the first row.
template <class T, int S = WIDTH<T> / 2> INLINE void fold_block(Vector<T> *rows) {
    UNROLL(8)
    for (int k = 0; k < S; k++) {
        exchange_parts<T, S>(rows[k], rows[k + S], Lanes<T>{});
        rows[k] += rows[k + S];
    }
    if constexpr (S > 1) fold_block<T, S / 2>(rows);
}

// The sum of the lanes of each of N vectors.
template <class T, int N> INLINE void sums_of(const Vector<T> *x, T *sums) {
    constexpr int W = WIDTH<T>;
    UNROLL(16)
    for (int first = 0; first < N; first += W) {
        Vector<T> block[W] = {};
        UNROLL(16)
        for (int i = 0; i < W; i++)
            if (first + i < N) block[i] = x[first + i];
        fold_block<T>(block);
        UNROLL(16)
        for (int i = 0; i < W; i++)
            if (first + i < N) sums[first + i] = block[0][i];
    }
}

// The exponential function is computed down to this number. Little below, it is no normal number.
template <class T> constexpr T LOWEST = sizeof(T) == 4 ? T(-87) : T(-708);

// The exponential function, up to rounding. It is that of `LOWEST` below; nan stays nan.
template <class T> INLINE Vector<T> exponential(Vector<T> x) {
    constexpr bool SINGLE = sizeof(T) == 4;
    constexpr int MANTISSA = SINGLE ? 23 : 52, BIAS = SINGLE ? 127 : 1023, TERMS = SINGLE ? 7 : 13;
    constexpr T SHIFT = T(3) * (int64_t(1) << (MANTISSA - 1));
    constexpr T HIGH = SINGLE ? T(0.693359375) : T(0.693147180369123816490);
    constexpr T LOW = SINGLE ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
    x = larger(all(LOWEST<T>), x);
    const Vector<T> shifted = x * T(1.44269504088896340736) + SHIFT, n = shifted - SHIFT;
    const Vector<T> rest = (x - n * HIGH) - n * LOW;
    Vector<T> p = all(T(1));
    UNROLL(16)
    for (int k = TERMS; k > 0; k--) p = p * rest * (T(1) / k) + T(1);
    return p * (Vector<T>)(((Bits<T>)shifted << MANTISSA) + ((Bits<T>{} + BIAS) << MANTISSA));
}

// Calls `f` with the number as a constant, at most MOST.
template <int MOST, class F> INLINE void with_constant(int n, F &&f) {
    if constexpr (MOST > 1) {
        if (n < MOST) return with_constant<MOST - 1>(n, f);
    }
    f(std::integral_constant<int, MOST>{});
}

// Divides n into the fewest parts of at most MOST, of similar sizes; calls `f(begin, size)`.
template <int MOST, class F> INLINE void in_parts(int n, F &&f) {
    const int parts = (n + MOST - 1) / MOST;
    for (int i = 0, begin = 0; i < parts; i++) {
        const int size = (n - begin) / (parts - i);
        with_constant<MOST>(size, [&](auto constant) __attribute__((always_inline)) { f(begin, constant); });
        begin += size;
    }
}

INLINE int up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
