#include "bench/programs.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <optional>
#include <utility>

#include "bench/need.h"
#include "mempool/base/check.h"

namespace runnel::bench {
namespace {

using process::child_process;

child_process start(std::vector<std::string> line, const std::vector<std::string>& words) {
  line.insert(line.end(), words.begin(), words.end());
  auto program = child_process::start(line);
  if (!program) {
    give_up(program.error());
  }
  return std::move(*program);
}

struct service {
  service(const std::string& runnel, const std::vector<std::string>& words)
      : socket{fmt::format("/tmp/runnel-bench-{}.sock", getpid())},
        program{start({runnel, "target", "--listen", "vfio-user:" + socket}, words)} {}
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

child_process start_perf(const std::string& runnel, const running_target& target,
                         const std::vector<std::string>& words) {
  return start({runnel, "perf", target.address(), "--json"}, words);
}

nlohmann::ordered_json finish_perf(child_process perf) {
  std::string output;
  const auto status = perf.finish(output, std::chrono::minutes{5});
  if (!status) {
    give_up(status.error());
  }
  nlohmann::ordered_json parsed = nlohmann::ordered_json::parse(output, nullptr, false);
  if (*status != 0 || parsed.is_discarded()) {
    give_up({.what = {errc::bad_status, static_cast<std::uint32_t>(*status)},
             .operation = "run",
             .object = "runnel perf",
             .hint = {}});
  }
  return parsed;
}

nlohmann::ordered_json run_perf(const std::string& runnel, const running_target& target,
                                const std::vector<std::string>& words) {
  return finish_perf(start_perf(runnel, target, words));
}

}  // namespace runnel::bench
