#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mempool/base/error.h"
#include "runtime/confinement.h"
#include "runtime/idle.h"

namespace CLI {
class App;
}

namespace runnel::cli {

/// What the process answers to its caller.
enum exit_code : int { exit_ok = 0, exit_failed = 1, exit_usage = 2 };

/// One subcommand of `runnel`. Its options are its members.
class command {
 public:
  virtual ~command() = default;
  /// Declares name, help and options.
  virtual CLI::App* declare(CLI::App& program) = 0;
  /// @return an exit_code; whatever went wrong is on stderr by then
  virtual int run() = 0;
};

[[nodiscard]] std::unique_ptr<command> make_target_command();
[[nodiscard]] std::unique_ptr<command> make_perf_command();
[[nodiscard]] std::unique_ptr<command> make_copy_command();
[[nodiscard]] std::unique_ptr<command> make_identify_command();
[[nodiscard]] std::unique_ptr<command> make_floor_command();
[[nodiscard]] std::unique_ptr<command> make_demo_command();
[[nodiscard]] std::unique_ptr<command> make_devices_command();
[[nodiscard]] std::unique_ptr<command> make_bind_command();
[[nodiscard]] std::unique_ptr<command> make_unbind_command();
[[nodiscard]] std::unique_ptr<command> make_doctor_command();

/// One line on stderr: "runnel: connect vfio-user:/run/a.sock: ...". @return exit_failed
int report_failure(const failure& what);
/// One line on stderr for words that cannot be understood. @return exit_usage
int report_usage(const std::string& message);

/// A line on stderr for each thing that works, but not as it was wished for.
void tell_notes(const std::vector<std::string>& notes);

/// `--poll`, with its help; `mode` holds the default.
void add_poll_option(CLI::App& to, poll_mode& mode);

/// `--seccomp`, with its help; what is said there is required.
void add_seccomp_option(CLI::App& to, confinement_options& wished);

/// True when one of the addresses is a device of the kernel, for which memory is pinned.
[[nodiscard]] bool any_pins_memory(const std::vector<std::string>& addresses);

/// True when every address parses and its scheme is known; otherwise the complaint is on stderr.
[[nodiscard]] bool addresses_are_well_formed(const std::vector<std::string>& addresses);

}  // namespace runnel::cli
