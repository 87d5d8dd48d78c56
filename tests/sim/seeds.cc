#include "tests/sim/seeds.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

// NOLINTNEXTLINE(readability-identifier-naming): the sanitizers named it
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace runnel::sim {
namespace {

/// What a dying process says; complete in advance, for then nothing can be made any more.
std::array<char, 512> last_words{};

void say_last_words() {
  [[maybe_unused]] const auto written =
      ::write(STDERR_FILENO, last_words.data(), std::strlen(last_words.data()));
}
void on_abort(int) {
  say_last_words();
}

std::uint64_t number_in(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::string replay_of(std::uint64_t seed) {
  const testing::TestInfo& test = *testing::UnitTest::GetInstance()->current_test_info();
  return fmt::format(
      "seed {} failed; replay it with\n  RUNNEL_SIM_SEED={} {} --gtest_filter={}.{}\n", seed, seed,
      program_invocation_name, test.test_suite_name(), test.name());
}

}  // namespace

seed_range seeds_to_run(std::uint64_t usual) {
  if (const std::uint64_t only = number_in("RUNNEL_SIM_SEED", 0); only != 0) {
    return {.first = only, .count = 1};
  }
  return {.count =
              number_in("RUNNEL_SIM_SEEDS", std::max<std::uint64_t>(1, usual / seeds_divisor))};
}

seed_under_test::seed_under_test(std::uint64_t seed) {
  const std::string words = replay_of(seed);
  words.copy(last_words.data(), last_words.size() - 1);
  last_words[std::min(words.size(), last_words.size() - 1)] = '\0';
  std::signal(SIGABRT, on_abort);
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(say_last_words);
  }
}

seed_under_test::~seed_under_test() {
  last_words[0] = '\0';
  std::signal(SIGABRT, SIG_DFL);
}

void report_failed_seed(std::uint64_t seed) {
  ADD_FAILURE() << replay_of(seed);
}

}  // namespace runnel::sim
