#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "apps/cli/command.h"
#include "apps/devices/devices.h"

namespace runnel::cli {
namespace {

class devices_command final : public command {
 public:
  CLI::App* declare(CLI::App& program) override {
    CLI::App* const self = program.add_subcommand(
        "devices", "List PCI devices, who has them, and how they could be used");
    self->add_flag("--json", json_, "one JSON object on stdout");
    return self;
  }

  int run() override {
    const devices::listing found = devices::find(pci::file_tree{});
    fmt::print("{}{}", json_ ? devices::to_json(found) : devices::to_text(found),
               json_ ? "\n" : "");
    for (const failure& each : found.unread) {
      report_failure(each);
    }
    return found.unread.empty() ? exit_ok : exit_failed;
  }

 private:
  bool json_ = false;
};

}  // namespace

std::unique_ptr<command> make_devices_command() {
  return std::make_unique<devices_command>();
}

}  // namespace runnel::cli
