#pragma once

#include "apps/doctor/machine.h"
#include "drivers/pci/machine_for_tests.h"

namespace runnel::doctor {

/// A machine that lacks nothing: a disk that vfio-pci has, behind an IOMMU of 48 bits. Tests take
/// away what they are about.
class healthy_machine : public pci::machine_for_tests {
 public:
  healthy_machine() {
    file("/proc/sys/kernel/osrelease", "6.12.95+deb12-amd64\n");
    file("/proc/cmdline", "root=/dev/vda quiet intel_iommu=on\n");
    file("/proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx sse\n");
    file("/proc/interrupts", " 24:  0  IR-PCI-MSI-0000:01:00.0  0-edge  vfio-msix\n");
    set_status("2", "0-3");
    file("/sys/devices/system/cpu/online", "0-3\n");
    folder("/sys/bus/pci/drivers/nvme");
    add_vfio();
    file("/sys/firmware/acpi/tables/DMAR", "");
    set_capabilities("d2008c222f0686");  // MGAW 47, SAGAW 48 bits
    set_pages("2048", 40, 40);
    file("/sys/kernel/mm/hugepages/none", "");  // names that are no sizes are none
  }

  /// The same with other answers of the system.
  [[nodiscard]] machine here() const {
    machine one = system;
    one.files = files();
    return one;
  }

  void add_vfio() {
    add(pci::test_device, {.driver = "vfio-pci"});
    folder(std::string{pci::test_folder} + "vfio-dev/vfio0");
    folder("/sys/class/vfio-dev/vfio0");
    file("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "N\n");
    file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n");
    for (const char* node :
         {"/dev/vfio/vfio", "/dev/vfio/3", "/dev/vfio/devices/vfio0", "/dev/iommu"}) {
      file(node, "");
    }
  }
  /// The registers of the IOMMU, of which bits 21:16 and 12:8 tell how wide it is.
  void set_capabilities(const char* hex) {
    file("/sys/class/iommu/dmar0/intel-iommu/cap", hex + std::string{"\n"});
  }
  void set_pages(const std::string& kib, int count, int free) {
    const std::string folder = "/sys/kernel/mm/hugepages/hugepages-" + kib + "kB/";
    file(folder + "nr_hugepages", std::to_string(count) + "\n");
    file(folder + "free_hugepages", std::to_string(free) + "\n");
    file(folder + "resv_hugepages", "0\n");
  }
  void set_status(const std::string& seccomp, const std::string& cpus) {
    file("/proc/self/status", "Name:\trunnel\nSeccomp:\t" + seccomp +
                                  "\nSeccomp_filters:\t9\nCpus_allowed:\tff\nCpus_allowed_list:\t" +
                                  cpus + "\n");
  }
  /// What modprobe finds.
  void install_module(const std::string& path) {
    file("/lib/modules/6.12.95+deb12-amd64/modules.dep",
         "kernel/fs/ext4/ext4.ko: kernel/lib/vfio-pci.ko\n" + path + ": kernel/other.ko\n");
  }

  machine system{.files = pci::file_tree{},
                 .is_root = false,
                 .memlock_bytes = ~std::uint64_t{0},
                 .memlock_bytes_max = ~std::uint64_t{0},
                 .io_uring = {}};
};

}  // namespace runnel::doctor
