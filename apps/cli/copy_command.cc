#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "apps/cli/command.h"
#include "apps/cli/progress_bar.h"
#include "apps/copy/copy.h"
#include "mempool/base/units.h"

namespace runnel::cli {
namespace {

class copy_command final : public command {
 public:
  CLI::App* declare(CLI::App& program) override {
    CLI::App* const self = program.add_subcommand("copy", "Copy between disks, files and pipes");
    self->add_option("from", asked_.from, "a block address, a file, or - for standard input")
        ->required();
    self->add_option("to", asked_.to, "a block address, a file, or - for standard output")
        ->required();
    add_seccomp_option(*self, confine_);
    return self;
  }

  int run() override {
    std::vector<std::string> addresses;
    for (const std::string& side : {asked_.from, asked_.to}) {
      if (copy::is_address(side)) {
        addresses.push_back(side);
      }
    }
    if (!addresses_are_well_formed(addresses)) {
      return exit_usage;
    }
    confine_.keeps_pinning = any_pins_memory(addresses);
    asked_.confine = confine_;
    const auto copied = copy_with_progress();
    if (!copied) {
      return report_failure(copied.error());
    }
    tell_notes(copied->notes);
    return exit_ok;
  }

 private:
  outcome<copy::summary> copy_with_progress() {
    progress_bar bar{{.name = "MiB", .scale = mib}};
    asked_.progress = [&bar](std::uint64_t done, std::uint64_t total) { bar.show(done, total); };
    return copy::run(asked_);
  }

  copy::options asked_;
  confinement_options confine_;
};

}  // namespace

std::unique_ptr<command> make_copy_command() {
  return std::make_unique<copy_command>();
}

}  // namespace runnel::cli
