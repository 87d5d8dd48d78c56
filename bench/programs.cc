#include "bench/programs.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <utility>

#include "bench/need.h"
#include "mempool/base/check.h"

namespace runnel::bench {
namespace {

using process::child_process;

std::vector<std::string> joined(std::vector<std::string> line,
                                const std::vector<std::string>& words) {
  line.insert(line.end(), words.begin(), words.end());
  return line;
}

child_process start(const std::vector<std::string>& line,
                    process::complaints where = process::complaints::to_ours) {
  auto program = child_process::start(line, where);
  if (!program) {
    give_up(program.error());
  }
  return std::move(*program);
}

struct service {
  service(const std::string& runnel, const std::vector<std::string>& words)
      : socket{fmt::format("/tmp/runnel-bench-{}.sock", getpid())},
        program{start(joined({runnel, "target", "--listen", "vfio-user:" + socket}, words),
                      process::complaints::to_output)} {}
  service(const service&) = delete;
  service& operator=(const service&) = delete;
  ~service() {
    ::unlink(socket.c_str());  // fails when the target did not come so far
  }

  std::string socket;
  child_process program;
};

// Static, since `give_up` ends no automatic object, and a busy target would stay for ever.
std::optional<service> serving;

std::vector<std::string> perf_line(const std::string& runnel, const std::string& address,
                                   const std::vector<std::string>& words) {
  return joined({runnel, "perf", address, "--json"}, words);
}

nlohmann::ordered_json result_of(const std::string& object, const outcome<int>& status,
                                 const std::string& output) {
  if (!status) {
    give_up(status.error());
  }
  nlohmann::ordered_json parsed = nlohmann::ordered_json::parse(output, nullptr, false);
  if (*status != 0 || parsed.is_discarded()) {
    give_up({.what = {errc::bad_status, static_cast<std::uint32_t>(*status)},
             .operation = "run",
             .object = object,
             .hint = {}});
  }
  return parsed;
}

nlohmann::ordered_json finish(const std::string& object, child_process program) {
  std::string output;
  const auto status = program.finish(output, std::chrono::minutes{5});
  return result_of(object, status, output);
}

/// How long threads were ready to run while others were on their cores: all of them, so far.
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

/// Its end, and what `off_core_ns_of` it was shortly before: threads that end take that with them.
std::pair<outcome<int>, double> watch(child_process& program, std::string& output) {
  constexpr std::chrono::milliseconds between_looks{20};
  constexpr unsigned looks_max = 5 * 60 * 50;  // five minutes
  outcome<int> status;
  double off_core_ns = 0;
  for (unsigned looks = 0; looks < looks_max; ++looks) {
    std::string more;
    status = program.finish(more, between_looks);
    output += more;
    if (status || status.error().what.code != errc::timed_out) {
      break;
    }
    off_core_ns = std::max(off_core_ns, off_core_ns_of(program.id()));
  }
  return {std::move(status), off_core_ns};
}

double cpu_ns_of_ended_children() noexcept {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  const auto ns = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_usec) * 1e3;
  };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

}  // namespace

running_target::running_target(const std::string& runnel, const std::vector<std::string>& words) {
  CHECK(!serving);
  serving.emplace(runnel, words);
  if (auto ready = serving->program.wait_for_line("ready ", std::chrono::seconds{20}); !ready) {
    give_up(ready.error());
  }
}

running_target::~running_target() {
  serving.reset();
}

std::string running_target::address() const {
  return "vfio-user:" + serving->socket;
}

const child_process& running_target::program() const noexcept {
  return serving->program;
}

std::uint64_t running_target::served_reads_and_writes() {
  const auto line = serving->program.wait_for_line_with("client left", std::chrono::seconds{5});
  if (!line) {
    give_up(line.error());
  }
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  const std::size_t counts = line->find("served ");
  CHECK(counts != std::string::npos);
  CHECK(std::sscanf(line->c_str() + counts, "served reads=%" SCNu64 " writes=%" SCNu64, &reads,
                    &writes) == 2);
  return reads + writes;
}

finished_run run_program(const std::vector<std::string>& line) {
  const double before = cpu_ns_of_ended_children();
  finished_run run;
  run.output = finish(line.front(), start(line));
  run.cpu_ns = cpu_ns_of_ended_children() - before;
  return run;
}

finished_run run_watched(const std::vector<std::string>& line) {
  const double before = cpu_ns_of_ended_children();
  const auto start_time = std::chrono::steady_clock::now();
  child_process program = start(line);
  std::string output;
  const auto [status, off_core_ns] = watch(program, output);
  const std::chrono::duration<double, std::nano> took =
      std::chrono::steady_clock::now() - start_time;
  return {.output = result_of(line.front(), status, output),
          .cpu_ns = cpu_ns_of_ended_children() - before,
          .off_core_share = off_core_ns / took.count()};
}

finished_run run_perf(const std::string& runnel, const std::string& address,
                      const std::vector<std::string>& words) {
  finished_run run = run_program(perf_line(runnel, address, words));
  for (const auto& core : run.output["cores"]) {
    run.off_core_share = std::max(run.off_core_share, core["off_core_share"].get<double>());
  }
  return run;
}

finished_run run_perf(const std::string& runnel, const running_target& target,
                      const std::vector<std::string>& words) {
  const pid_t server = target.program().id();
  const double before = off_core_ns_of(server);
  const auto start_time = std::chrono::steady_clock::now();
  finished_run run = run_perf(runnel, target.address(), words);
  const std::chrono::duration<double, std::nano> took =
      std::chrono::steady_clock::now() - start_time;
  run.off_core_share =
      std::max(run.off_core_share, (off_core_ns_of(server) - before) / took.count());
  return run;
}

child_process start_perf(const std::string& runnel, const running_target& target,
                         const std::vector<std::string>& words) {
  return start(perf_line(runnel, target.address(), words));
}

nlohmann::ordered_json finish_perf(child_process perf) {
  return finish("runnel perf", std::move(perf));
}

}  // namespace runnel::bench
