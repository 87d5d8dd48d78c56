#include <CLI/CLI.hpp>

#include <filesystem>
#include <memory>

#include "apps/cli/command.h"
#include "apps/demo/demo.h"

namespace runnel::cli {
namespace {

class demo_command final : public command {
 public:
  CLI::App* declare(CLI::App& program) override {
    return program.add_subcommand(
        "demo", "Show a real disk image travelling through a real NVMe driver and controller");
  }

  int run() override {
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    const auto shown = demo::run({.program = self});
    return shown ? exit_ok : report_failure(shown.error());
  }
};

}  // namespace

std::unique_ptr<command> make_demo_command() {
  return std::make_unique<demo_command>();
}

}  // namespace runnel::cli
