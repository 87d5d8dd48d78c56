#include "bench/watched_run.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "apps/process/child_process.h"
#include "bench/need.h"

namespace runnel::bench {
namespace {

constexpr std::chrono::milliseconds between_looks{20};  // threads that end take so much with them
constexpr unsigned looks_max = 5 * 60 * 50;             // five minutes

/// All threads of a program that runs; 0 where the kernel does not count it.
double off_core_ns_of(pid_t program) {
  double sum = 0;
  std::error_code gone;
  const auto threads = fmt::format("/proc/{}/task", program);
  for (const auto& thread : std::filesystem::directory_iterator{threads, gone}) {
    double on_core = 0;
    double off_core = 0;
    std::ifstream{thread.path() / "schedstat"} >> on_core >> off_core;
    sum += off_core;
  }
  return sum;
}

double cpu_ns_of_ended_children() noexcept {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  const auto ns = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_usec) * 1e3;
  };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

struct ending {
  outcome<int> status;
  std::string output;
  double off_core_ns = 0;
};

ending watch(process::child_process program) {
  ending seen;
  for (unsigned looks = 0; looks < looks_max; ++looks) {
    std::string more;
    seen.status = program.finish(more, between_looks);
    seen.output += more;
    if (seen.status || seen.status.error().what.code != errc::timed_out) {
      break;
    }
    seen.off_core_ns = std::max(seen.off_core_ns, off_core_ns_of(program.id()));
  }
  return seen;
}

}  // namespace

finished_run run_watched(const std::vector<std::string>& line) {
  const double cpu_ns_before = cpu_ns_of_ended_children();
  const auto start = std::chrono::steady_clock::now();
  ending seen = watch(need(process::child_process::start(line)));
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  if (const int status = need(std::move(seen.status)); status != 0) {
    give_up({.what = {errc::bad_status, static_cast<std::uint32_t>(status)},
             .operation = "run",
             .object = line.front(),
             .hint = {}});
  }
  return {.output = nlohmann::ordered_json::parse(seen.output),
          .cpu_ns = cpu_ns_of_ended_children() - cpu_ns_before,
          .off_core_share = seen.off_core_ns / took.count()};
}

}  // namespace runnel::bench
