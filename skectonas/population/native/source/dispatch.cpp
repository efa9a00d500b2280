// The C interface: which variants this processor can run, and calls of the one that is chosen.
#include <cstring>
#include <string>

#include "dispatch.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

// The functions of engine.cpp in each variant.
#define DECLARE(variant)                                     \
    namespace variant {                                      \
    const Kernels &kernels_for(bool is_double, int n_rows);  \
    int vector_bytes();                                      \
    }

namespace skectonas {
#ifdef __x86_64__
DECLARE(x86_64_v2)
DECLARE(x86_64_v3)
DECLARE(x86_64_v4)
#else
DECLARE(baseline)
#endif
}  // namespace skectonas

namespace {

#ifdef __x86_64__

struct Registers {
    unsigned a = 0, b = 0, c = 0, d = 0;
};

// All zero if the processor does not have this leaf.
Registers cpuid(unsigned leaf) {
    Registers r;
    __get_cpuid_count(leaf, 0, &r.a, &r.b, &r.c, &r.d);
    return r;
}

bool has(unsigned value, unsigned bits) { return (value & bits) == bits; }

// The vector registers that the operating system saves. macOS on Intel processors enables those of
// AVX-512 only when they are first used, so that x86-64-v4 is not found there.
unsigned saved_registers() {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

// 0 to 4: the highest level of the x86-64 psABI that processor and operating system support.
int x86_64_level() {
    const Registers basic = cpuid(1), more = cpuid(7), extended = cpuid(0x80000001u);
    constexpr unsigned osxsave = 1u << 27;
    constexpr unsigned v2 = bit_SSE3 | bit_SSSE3 | bit_CMPXCHG16B | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT;
    constexpr unsigned lahf = 1u << 0;
    if (!has(basic.c, v2) || !has(extended.c, lahf)) return 1;
    constexpr unsigned v3 = bit_FMA | bit_MOVBE | bit_F16C | bit_AVX | osxsave;
    constexpr unsigned v3_more = bit_BMI | bit_AVX2 | bit_BMI2;
    constexpr unsigned lzcnt = 1u << 5;
    if (!has(basic.c, v3) || !has(more.b, v3_more) || !has(extended.c, lzcnt)) return 2;
    const unsigned saved = saved_registers();
    if (!has(saved, 0x06)) return 2;
    constexpr unsigned v4 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
    if (!has(more.b, v4) || !has(saved, 0xe6)) return 3;
    return 4;
}

std::string variants() {
    std::string names;
    for (int level = x86_64_level(); level >= 2; --level) {
        names += (names.empty() ? "x86-64-v" : ",x86-64-v") + std::to_string(level);
    }
    return names;
}

#else

std::string variants() { return "baseline"; }

#endif

}  // namespace

// The names of the variants that this processor can run, best first, separated by commas.
SKECTONAS_EXPORT const char *skectonas_variants(void) {
    static const std::string names = variants();
    return names.c_str();
}

// A digest of the sources: see CMakeLists.txt.
SKECTONAS_EXPORT const char *skectonas_sources(void) { return SKECTONAS_SOURCES; }

namespace skectonas {
namespace {

struct Variant {
    const char *name;
    const Kernels &(*kernels_for)(bool is_double, int n_rows);
    int (*vector_bytes)();
};

const Variant every[] = {
#ifdef __x86_64__
    {"x86-64-v2", x86_64_v2::kernels_for, x86_64_v2::vector_bytes},
    {"x86-64-v3", x86_64_v3::kernels_for, x86_64_v3::vector_bytes},
    {"x86-64-v4", x86_64_v4::kernels_for, x86_64_v4::vector_bytes},
#else
    {"baseline", baseline::kernels_for, baseline::vector_bytes},
#endif
};

const Variant *find(const char *name) {
    for (const Variant &variant : every)
        if (!std::strcmp(variant.name, name)) return &variant;
    return nullptr;
}

}  // namespace

const Kernels *find_kernels(const char *name, bool is_double, int n_rows) {
    const Variant *variant = find(name);
    return variant ? &variant->kernels_for(is_double, n_rows) : nullptr;
}

}  // namespace skectonas

// The size of the vectors of a variant, which has to be one that this processor can run.
SKECTONAS_EXPORT int skectonas_vector_bytes(const char *name) {
    const skectonas::Variant *variant = skectonas::find(name);
    return variant ? variant->vector_bytes() : 0;
}
