#include "apps/doctor/known_structures.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace runnel::doctor {
namespace {

constexpr std::string_view device_kernels[] = {"5.4",  "5.8",  "5.11", "5.13",
                                               "5.15", "5.19", "6.18"};
constexpr std::string_view pci_device_kernels[] = {"5.4", "5.8", "5.11", "5.13"};
constexpr std::string_view operations_kernels[] = {"6.18"};

constexpr known_field device_fields[] = {
    {"struct kref kref", 0, 2},
    {"struct device *dev", 0, 6},
    {"const struct vfio_device_ops *ops", 0, 6},
    {"const struct vfio_migration_ops *mig_ops", 5, 6},
    {"const struct vfio_log_ops *log_ops", 6, 6},
    {"struct vfio_group *group", 0, 6},
    {"struct list_head group_next", 6, 6},  // it has moved
    {"struct list_head iommu_entry", 6, 6},
    {"struct vfio_device_set *dev_set", 4, 6},
    {"struct list_head dev_set_list", 4, 6},
    {"unsigned int migration_flags", 5, 6},
    {"struct kvm *kvm", 5, 6},
    {"unsigned int index", 6, 6},
    {"struct device device", 6, 6},
    {"struct cdev cdev", 6, 6},
    {"refcount_t refcount", 3, 6},
    {"unsigned int open_count", 4, 6},
    {"struct completion comp", 3, 6},
    {"struct iommufd_access *iommufd_access", 6, 6},
    {"void (*put_kvm)(struct kvm *)", 6, 6},
    {"struct inode *inode", 6, 6},
    {"struct iommufd_device *iommufd_device", 6, 6},
    {"struct ida pasids", 6, 6},
    {"u8 iommufd_attached: 1", 6, 6},
    {"u8 cdev_opened: 1", 6, 6},
    {"struct dentry *debug_root", 6, 6},
    {"struct list_head group_next", 0, 5},
    {"void *device_data", 0, 2},
};

constexpr known_field pci_device_fields[] = {
    {"struct vfio_device vdev", 3, 3},
    {"struct pci_dev *pdev", 0, 3},
    {"void *barmap[6]", 0, 3},
    {"bool bar_mmap_supported[6]", 0, 3},
    {"u8 *pci_config_map", 0, 3},
    {"u8 *vconfig", 0, 3},
    {"struct perm_bits *msi_perm", 0, 3},
    {"spinlock_t irqlock", 0, 3},
    {"struct mutex igate", 0, 3},
    {"struct vfio_pci_irq_ctx *ctx", 0, 3},
    {"int num_ctx", 0, 3},
    {"int irq_type", 0, 3},
    {"int num_regions", 0, 3},
    {"struct vfio_pci_region *region", 0, 3},
    {"u8 msi_qmax", 0, 3},
    {"u8 msix_bar", 0, 3},
    {"u16 msix_size", 0, 3},
    {"u32 msix_offset", 0, 3},
    {"u32 rbar[7]", 0, 3},
    {"bool pci_2_3", 0, 3},
    {"bool virq_disabled", 0, 3},
    {"bool reset_works", 0, 3},
    {"bool extended_caps", 0, 3},
    {"bool bardirty", 0, 3},
    {"bool has_vga", 0, 3},
    {"bool needs_reset", 0, 3},
    {"bool nointx", 0, 3},
    {"bool needs_pm_restore", 0, 3},
    {"struct pci_saved_state *pci_saved_state", 0, 3},
    {"struct pci_saved_state *pm_save", 0, 3},
    {"struct vfio_pci_reflck *reflck", 0, 3},
    {"int refcnt", 0, 3},
    {"int ioeventfds_nr", 0, 3},
    {"struct eventfd_ctx *err_trigger", 0, 3},
    {"struct eventfd_ctx *req_trigger", 0, 3},
    {"struct list_head dummy_resources_list", 0, 3},
    {"struct mutex ioeventfds_lock", 0, 3},
    {"struct list_head ioeventfds_list", 0, 3},
    {"struct vfio_pci_vf_token *vf_token", 1, 3},
    {"struct notifier_block nb", 1, 3},
    {"struct mutex vma_lock", 1, 3},
    {"struct list_head vma_list", 1, 3},
    {"struct rw_semaphore memory_lock", 1, 3},
};

constexpr known_field device_operations[] = {
    {"char *name", 0, 0},
    {"int (*init)(struct vfio_device *)", 0, 0},
    {"void (*release)(struct vfio_device *)", 0, 0},
    {"int (*bind_iommufd)(struct vfio_device *, struct iommufd_ctx *, u32 *)", 0, 0},
    {"void (*unbind_iommufd)(struct vfio_device *)", 0, 0},
    {"int (*attach_ioas)(struct vfio_device *, u32 *)", 0, 0},
    {"void (*detach_ioas)(struct vfio_device *)", 0, 0},
    {"int (*pasid_attach_ioas)(struct vfio_device *, u32, u32 *)", 0, 0},
    {"void (*pasid_detach_ioas)(struct vfio_device *, u32)", 0, 0},
    {"int (*open_device)(struct vfio_device *)", 0, 0},
    {"void (*close_device)(struct vfio_device *)", 0, 0},
    {"ssize_t (*read)(struct vfio_device *, char *, size_t, loff_t *)", 0, 0},
    {"ssize_t (*write)(struct vfio_device *, const char *, size_t, loff_t *)", 0, 0},
    {"long int (*ioctl)(struct vfio_device *, unsigned int, long unsigned int)", 0, 0},
    {"int (*mmap)(struct vfio_device *, struct vm_area_struct *)", 0, 0},
    {"void (*request)(struct vfio_device *, unsigned int)", 0, 0},
    {"int (*match)(struct vfio_device *, char *)", 0, 0},
    {"int (*match_token_uuid)(struct vfio_device *, const uuid_t *)", 0, 0},
    {"void (*dma_unmap)(struct vfio_device *, u64, u64)", 0, 0},
    {"int (*device_feature)(struct vfio_device *, u32, void *, size_t)", 0, 0},
};

constexpr known_field migration_operations[] = {
    {"struct file *(*migration_set_state)(struct vfio_device *, enum vfio_device_mig_state)", 0, 0},
    {"int (*migration_get_state)(struct vfio_device *, enum vfio_device_mig_state *)", 0, 0},
    {"int (*migration_get_data_size)(struct vfio_device *, long unsigned int *)", 0, 0},
};

constexpr known_field log_operations[] = {
    {"int (*log_start)(struct vfio_device *, struct rb_root_cached *, u32, u64 *)", 0, 0},
    {"int (*log_stop)(struct vfio_device *)", 0, 0},
    {"int (*log_read_and_clear)(struct vfio_device *, long unsigned int, long unsigned int, struct "
     "iova_bitmap *)",
     0, 0},
};

constexpr known_structure structures[] = {
    {"vfio_device", device_kernels, device_fields},
    {"vfio_pci_device", pci_device_kernels, pci_device_fields},
    {"vfio_device_ops", operations_kernels, device_operations},
    {"vfio_migration_ops", operations_kernels, migration_operations},
    {"vfio_log_ops", operations_kernels, log_operations},
};

/// "6.12.95+deb12-amd64" -> 6, 12.
std::pair<unsigned, unsigned> version_of(std::string_view release) {
  std::pair<unsigned, unsigned> version{};
  const char* const end = release.data() + release.size();
  const auto major = std::from_chars(release.data(), end, version.first);
  if (major.ptr != end) {
    std::from_chars(major.ptr + 1, end, version.second);
  }
  return version;
}

}  // namespace

std::span<const known_structure> known_structures() noexcept {
  return structures;
}

std::size_t nearest_kernel(const known_structure& which, std::string_view release) {
  const auto later = std::ranges::upper_bound(which.kernels, version_of(release), {}, version_of);
  const auto place = static_cast<std::size_t>(later - which.kernels.begin());
  return place == 0 ? 0 : place - 1;
}

std::string_view declared_name(std::string_view declaration) noexcept {
  constexpr std::string_view letters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  const std::size_t pointer = declaration.find("(*");
  if (pointer != std::string_view::npos) {
    declaration.remove_prefix(pointer + 2);
    return declaration.substr(0, declaration.find_first_not_of(letters));
  }
  declaration = declaration.substr(0, declaration.find_first_of(":["));
  const std::size_t before = declaration.find_last_not_of(letters);
  return declaration.substr(before == std::string_view::npos ? 0 : before + 1);
}

}  // namespace runnel::doctor
