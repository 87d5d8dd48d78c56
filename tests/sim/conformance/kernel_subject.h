#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "drivers/pci/address.h"
#include "drivers/pci/device.h"
#include "drivers/pci/machine_for_tests.h"
#include "mempool/base/clock.h"
#include "mempool/base/units.h"
#include "mempool/window.h"
#include "runtime/cores.h"
#include "runtime/io/address.h"
#include "runtime/io/vfio_host.h"
#include "tests/sim/conformance/subject.h"
#include "tests/sim/fake_vfio/kernel.h"

namespace runnel::sim {

/// A fake kernel with one device, and the files where it tells of it.
struct fake_computer {
  static constexpr std::uint32_t maps_max = 32;

  /// @param version  of the kernel: 612 is 6.12
  explicit fake_computer(unsigned version) : kernel{{.version = version, .maps_max = maps_max}} {
    const function_options& is = kernel.under.functions[0]->options;
    files.add(is.address, {.driver = "vfio-pci", .group = is.group});
    files.folder("/sys/bus/pci/devices/" + is.address + "/vfio-dev/" + is.node);
    files.file("/dev/iommu", "");
    files.file("/dev/vfio/" + std::to_string(is.group), "");
    files.file("/dev/vfio/devices/" + is.node, "");
  }

  fake_kernel kernel;
  pci::machine_for_tests files;
};

/// A device of a kernel, real or fake, opened as an application does it: by its address.
class kernel_subject final : public subject {
 public:
  /// @param address  as "pci:0000:01:00.0?via=group"
  /// @param fake     the computer it is in; null: this one
  explicit kernel_subject(const std::string& address, std::unique_ptr<fake_computer> fake = {})
      : address_{*io::parse_address(address)}, fake_{std::move(fake)} {}

  void open() override {
    if (!host_) {
      host_.emplace(*allowed_cores(), system(), files());
    }
    auto opened = host_->open(address_, memory_);
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
    device_ = std::move(*opened);
    while (device_.transport->advance(clock_.now()) != never &&
           device_.transport->state() == vfio::transport_state::connecting) {
      wait();
    }
  }
  bool close_device() override {
    device_.transport.reset();
    return true;
  }
  void close() override {
    device_ = {};
    host_.reset();
  }

  [[nodiscard]] vfio::device_transport& transport() override { return *device_.transport; }
  [[nodiscard]] vfio::iommu_domain& domain() override { return *device_.domain; }
  void turn() override {
    device_.transport->advance(clock_.now());
    wait();
  }

  [[nodiscard]] holdings held() const override {
    holdings all = held_by_process();
    if (fake_) {
      const fake_kernel::leaks its = fake_->kernel.held();
      all.fds += its.fds;
      all.pinned += its.pinned;
    }
    return all;
  }
  [[nodiscard]] bool counts_pins() const override {
    return fake_ || address_.via == pci::way::group;
  }
  [[nodiscard]] std::optional<kernel_side> kernel() const override {
    const auto found = pci::read_device(files(), *pci::parse_address(address_.target));
    EXPECT_TRUE(found.has_value());
    return kernel_side{
        .system = &system(),
        .address = pci::to_string(found->where),
        .group = static_cast<int>(found->group.value_or(0)),
        .node = found->vfio_name.empty() ? "" : "/dev/vfio/devices/" + found->vfio_name};
  }
  bool wake() override {
    if (fake_) {
      pci_function& function = *fake_->kernel.under.functions[0];
      const bool slept = function.asleep;
      function.wake();
      return slept;
    }
    return wake_by_sysfs("/sys/bus/pci/devices/" + kernel()->address + "/power/");
  }

 private:
  /// @spec Linux Documentation/ABI/testing/sysfs-devices-power: "on" wakes it, "auto" lets it sleep
  [[nodiscard]] bool wake_by_sysfs(const std::string& folder) const {
    std::string now;
    for (int turn = 0; turn < 100 && now != "suspended"; ++turn) {  // soon after it was asked to
      std::ifstream{folder + "runtime_status"} >> now;
      wait();
    }
    for (const char* word : {"on", "auto"}) {
      if (!(std::ofstream{folder + "control"} << word << std::flush)) {
        return false;
      }
    }
    return now == "suspended";
  }
  [[nodiscard]] vfio::syscalls& system() const {
    return fake_ ? static_cast<vfio::syscalls&>(fake_->kernel) : vfio::real_syscalls();
  }
  [[nodiscard]] pci::file_tree files() const {
    return fake_ ? fake_->files.files() : pci::file_tree{};
  }
  void wait() const {
    pollfd until{.fd = device_.transport->event_fd(), .events = POLLIN, .revents = 0};
    ::poll(&until, 1, 100);
  }

  io::address address_;
  std::unique_ptr<fake_computer> fake_;
  window memory_{std::move(*window::create({.bytes = 2 * mib, .huge = false}))};
  tsc_clock clock_;
  std::optional<io::vfio_host> host_;
  io::vfio_host::access device_;
};

}  // namespace runnel::sim
