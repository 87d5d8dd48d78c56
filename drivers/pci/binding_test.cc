// Goal: a device comes to vfio-pci and back to the driver it had, and whatever fails on the way
// leaves it with that driver. Method: a machine of files behind a writer that acts as the kernel
// does, and may fail any write.

#include "drivers/pci/binding.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "drivers/pci/bindable.h"
#include "drivers/pci/machine_for_tests.h"

namespace runnel::pci {
namespace {

constexpr const char* memory_folder = "/run/runnel";

/// Does to the machine's files what the kernel does when it is written to.
class fake_kernel final : public writer {
 public:
  explicit fake_kernel(machine_for_tests& machine) : machine_{machine} {}

  void fail_write(std::size_t number, error why) {
    failing_ = number;
    why_ = why;
  }
  void fail_all_from(std::size_t number) { failing_from_ = number; }
  void deny(const std::string& path) { denied_.insert(path); }
  [[nodiscard]] const std::vector<std::string>& log() const noexcept { return log_; }

  result<> may_write(std::string_view path) override {
    if (denied_.contains(std::string{path})) {
      return fail(errc::os, EACCES);
    }
    return machine_.files().exists(path) ? result<>{} : fail(errc::os, ENOENT);
  }

  result<> write(std::string_view path, std::string_view text) override {
    const std::size_t number = log_.size();
    log_.push_back(std::string{text} + " > " + std::string{path.substr(path.rfind('/') + 1)});
    if (number == failing_ || number >= failing_from_) {
      return std::unexpected{why_};
    }
    const std::string file{path};
    const std::string driver = std::string{test_folder} + "driver";
    if (file.ends_with("/driver_override")) {
      machine_.file(file, text == "\n" ? "(null)\n" : text);
    } else if (file.ends_with("/unbind")) {
      machine_.remove(driver);
    } else if (file.ends_with("/bind")) {
      machine_.link(driver, file.substr(0, file.rfind('/')));
    } else {
      machine_.link(driver, "/sys/bus/pci/drivers/nvme");  // what matches it
    }
    return {};
  }

  result<> keep(std::string_view path, std::string_view text) override {
    if (denied_.contains(std::string{path})) {
      return fail(errc::os, EACCES);
    }
    machine_.file(std::string{path}, text);
    return {};
  }
  void forget(std::string_view path) override { machine_.remove(std::string{path}); }

 private:
  machine_for_tests& machine_;
  std::vector<std::string> log_;
  std::set<std::string> denied_;
  std::size_t failing_ = SIZE_MAX;
  std::size_t failing_from_ = SIZE_MAX;
  error why_{errc::os, EINVAL};
};

class Binding : public testing::Test {
 protected:
  Binding() {
    machine.add(test_device);
    machine.add_driver("vfio-pci");
  }

  outcome<> take() { return bind(kernel, memory, now()); }
  outcome<> give_back() { return unbind(machine.files(), kernel, memory, now()); }
  [[nodiscard]] device now() const { return machine.read(test_device); }
  [[nodiscard]] std::string kept() const {
    return machine.text(std::string{memory_folder} + "/" + test_device);
  }

  machine_for_tests machine;
  fake_kernel kernel{machine};
  old_drivers memory{machine.files(), memory_folder};
};

TEST_F(Binding, TakesADeviceByOverrideAndGivesItBackToItsDriver) {
  ASSERT_TRUE(check_bindable(machine.files(), now()));
  ASSERT_TRUE(take());
  EXPECT_EQ(now().driver, "vfio-pci");
  EXPECT_EQ(now().driver_override, "vfio-pci");
  EXPECT_EQ(kept(), "1b36:0010 nvme");
  ASSERT_TRUE(give_back());
  EXPECT_EQ(now().driver, "nvme");
  EXPECT_EQ(now().driver_override, "");
  EXPECT_EQ(kept(), "(none)");
  EXPECT_EQ(kernel.log(),
            (std::vector<std::string>{"vfio-pci > driver_override", "0000:01:00.0 > unbind",
                                      "0000:01:00.0 > bind", "\n > driver_override",
                                      "0000:01:00.0 > unbind", "0000:01:00.0 > bind"}));
}

TEST_F(Binding, ADeviceThatHadNoDriverHasNoneAgain) {
  machine.remove(std::string{test_folder} + "driver");
  ASSERT_TRUE(take());
  EXPECT_EQ(now().driver, "vfio-pci");
  ASSERT_TRUE(give_back());
  EXPECT_EQ(now().driver, "");
}

TEST_F(Binding, ADeviceThatSomebodyElseBoundGoesToTheDriverThatMatches) {
  machine.link(std::string{test_folder} + "driver", "/sys/bus/pci/drivers/vfio-pci");
  ASSERT_TRUE(give_back());
  EXPECT_EQ(now().driver, "nvme");
  EXPECT_EQ(kernel.log().back(), "0000:01:00.0 > drivers_probe");
}

TEST_F(Binding, WhatWasRememberedOfAnotherDeviceInThatPlaceIsNotUsed) {
  machine.link(std::string{test_folder} + "driver", "/sys/bus/pci/drivers/vfio-pci");
  for (const char* text : {"8086:0010 e1000e\n", "1b36:0010 ../../evil\n", "nvme\n", "", "\x01"}) {
    machine.file(std::string{memory_folder} + "/" + test_device, text);
    EXPECT_FALSE(memory.recall(now())) << text;
  }
}

TEST_F(Binding, WhicheverWriteFailsTheDeviceIsWithItsDriverAgain) {
  for (std::size_t number = 0; number < 3; ++number) {
    machine_for_tests fresh;
    fresh.add(test_device);
    fresh.add_driver("vfio-pci");
    fake_kernel failing{fresh};
    failing.fail_write(number, {errc::os, EINVAL});
    const old_drivers its_memory{fresh.files(), memory_folder};
    const auto bound = bind(failing, its_memory, fresh.read(test_device));
    ASSERT_FALSE(bound) << number;
    EXPECT_EQ(bound.error().what, (error{errc::os, EINVAL}));
    EXPECT_EQ(fresh.read(test_device).driver, "nvme") << number;
    EXPECT_EQ(fresh.read(test_device).driver_override, "") << number;
    EXPECT_FALSE(its_memory.recall(fresh.read(test_device))) << number;
  }
}

TEST_F(Binding, ADeviceThatCannotGoBackCanStillBeGivenBackLater) {
  kernel.fail_all_from(2);
  const auto bound = take();
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.error().hint.find("`runnel unbind 0000:01:00.0`"), std::string::npos);
  EXPECT_EQ(now().driver, "");
  EXPECT_EQ(memory.recall(now()), "nvme");
  kernel.fail_all_from(SIZE_MAX);
  ASSERT_TRUE(take());  // trying again does not forget what it had first
  EXPECT_EQ(memory.recall(now()), "nvme");
  ASSERT_TRUE(give_back());
  EXPECT_EQ(now().driver, "nvme");
}

TEST_F(Binding, ADeviceThatIsKeptOpenIsNotGivenBackAndWhoKeepsItIsNamed) {
  ASSERT_TRUE(take());
  machine.file("/proc/42/comm", "qemu\n");
  machine.raw_link("/proc/42/fd/5", "/dev/vfio/3");
  kernel.fail_write(4, {errc::timed_out});
  const auto given = give_back();
  ASSERT_FALSE(given);
  EXPECT_EQ(given.error().what.code, errc::timed_out);
  EXPECT_NE(given.error().hint.find("qemu (pid 42)"), std::string::npos) << given.error().hint;
  EXPECT_EQ(memory.recall(now()), "nvme");
  machine.remove(std::string{test_folder} + "driver");  // it ended, and the kernel went on
  ASSERT_TRUE(give_back());
  EXPECT_EQ(now().driver, "nvme");
}

TEST_F(Binding, WhoIsNotRootIsToldTheCommandAndNothingWasDone) {
  kernel.deny(std::string{test_folder} + "driver_override");
  const auto bound = take();
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.error().hint.find("`sudo runnel bind 0000:01:00.0`"), std::string::npos);
  EXPECT_NE(bound.error().hint.find("driver_override"), std::string::npos);
  EXPECT_TRUE(kernel.log().empty());
  EXPECT_EQ(kept(), "(none)");
}

TEST_F(Binding, ADriverThatCannotBeRememberedIsNotTakenAway) {
  kernel.deny(std::string{memory_folder} + "/" + test_device);
  EXPECT_FALSE(take());
  EXPECT_TRUE(kernel.log().empty());
}

TEST_F(Binding, ADriverThatHasGoneSinceIsNamed) {
  ASSERT_TRUE(take());
  machine.remove("/sys/bus/pci/drivers/nvme");
  const auto given = give_back();
  ASSERT_FALSE(given);
  EXPECT_NE(given.error().hint.find("`modprobe nvme`"), std::string::npos) << given.error().hint;
  EXPECT_EQ(now().driver, "vfio-pci");
}

TEST_F(Binding, WhatStandsInItsWayIsSaidWithARemedy) {
  struct row {
    const char* what;
    made_device made;
    bool has_vfio;
    const char* mounts;
    errc expected;
    const char* hint;
  };
  for (const row& each : {
           row{"a bridge", {.class_code = "0x060400"}, true, "", errc::unsupported, "bridge"},
           row{"a mount", {}, true, "30 1 259:0 / / rw - ext4 /dev/a rw\n", errc::busy, "umount /"},
           row{"no driver", {}, false, "", errc::not_found, "modprobe vfio-pci"},
           row{"no IOMMU", {.group = -1}, true, "", errc::unsupported, "intel_iommu=on"},
       }) {
    machine_for_tests other;
    other.add(test_device, each.made);
    other.add_disk(test_device, "nvme0n1", "259:0");
    other.file("/proc/self/mountinfo", each.mounts);
    if (each.has_vfio) {
      other.add_driver("vfio-pci");
    }
    const auto allowed = check_bindable(other.files(), other.read(test_device));
    ASSERT_FALSE(allowed) << each.what;
    EXPECT_EQ(allowed.error().what.code, each.expected) << each.what;
    EXPECT_NE(allowed.error().hint.find(each.hint), std::string::npos) << allowed.error().hint;
  }
}

TEST_F(Binding, WithoutAnIommuWhoSaysSoMay) {
  machine_for_tests other;
  other.add(test_device, {.group = -1});
  other.add_driver("vfio-pci");
  other.file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
  EXPECT_TRUE(check_bindable(other.files(), other.read(test_device)));
}

}  // namespace
}  // namespace runnel::pci
