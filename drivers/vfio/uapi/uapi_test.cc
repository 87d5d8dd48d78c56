// Goal: our copies of the kernel's numbers and layouts are the kernel's. Method: each beside what
// the host's own headers say, as far as those are new enough to have it; nothing else in the
// project includes them.
#include <gtest/gtest.h>
#include <linux/vfio.h>
#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "drivers/vfio/transport.h"
#include "drivers/vfio/uapi/cdev.h"
#include "drivers/vfio/uapi/features.h"
#include "drivers/vfio/uapi/iommufd.h"
#include "drivers/vfio/uapi/type1.h"
#include "drivers/vfio/uapi/vfio.h"

namespace runnel::vfio::uapi {
namespace {

struct row {
  const char* name;
  std::uint64_t ours;
  std::uint64_t kernels;
};

void expect_equal(const std::vector<row>& rows) {
  for (const row& each : rows) {
    EXPECT_EQ(each.ours, each.kernels) << each.name;
  }
}

// What the kernel calls NAME; and that a field lies where the kernel has one of its name.
#define NUMBER(ours, NAME)                                                    \
  row {                                                                       \
    #NAME, static_cast<std::uint64_t>(ours), static_cast<std::uint32_t>(NAME) \
  }
#define BYTES(ours, name)                    \
  row {                                      \
    #name, sizeof(ours), sizeof(struct name) \
  }
#define FIELD(ours, name, field)                                          \
  row {                                                                   \
    #name "." #field, offsetof(ours, field), offsetof(struct name, field) \
  }

TEST(Uapi, IoctlsOfVfioAreTheKernels) {
  expect_equal({
      NUMBER(ioctls::get_api_version, VFIO_GET_API_VERSION),
      NUMBER(ioctls::check_extension, VFIO_CHECK_EXTENSION),
      NUMBER(ioctls::set_iommu, VFIO_SET_IOMMU),
      NUMBER(ioctls::group_get_status, VFIO_GROUP_GET_STATUS),
      NUMBER(ioctls::group_set_container, VFIO_GROUP_SET_CONTAINER),
      NUMBER(ioctls::group_unset_container, VFIO_GROUP_UNSET_CONTAINER),
      NUMBER(ioctls::group_get_device_fd, VFIO_GROUP_GET_DEVICE_FD),
      NUMBER(ioctls::device_get_info, VFIO_DEVICE_GET_INFO),
      NUMBER(ioctls::device_get_region_info, VFIO_DEVICE_GET_REGION_INFO),
      NUMBER(ioctls::device_get_irq_info, VFIO_DEVICE_GET_IRQ_INFO),
      NUMBER(ioctls::device_set_irqs, VFIO_DEVICE_SET_IRQS),
      NUMBER(ioctls::device_reset, VFIO_DEVICE_RESET),
      NUMBER(ioctls::device_get_pci_hot_reset_info, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO),
      NUMBER(ioctls::device_pci_hot_reset, VFIO_DEVICE_PCI_HOT_RESET),
      NUMBER(ioctls::device_ioeventfd, VFIO_DEVICE_IOEVENTFD),
      NUMBER(ioctls::device_feature, VFIO_DEVICE_FEATURE),
      NUMBER(ioctls::iommu_get_info, VFIO_IOMMU_GET_INFO),
      NUMBER(ioctls::iommu_map_dma, VFIO_IOMMU_MAP_DMA),
      NUMBER(ioctls::iommu_unmap_dma, VFIO_IOMMU_UNMAP_DMA),
      NUMBER(ioctls::iommu_dirty_pages, VFIO_IOMMU_DIRTY_PAGES),
#ifdef VFIO_DEVICE_BIND_IOMMUFD
      NUMBER(ioctls::device_bind_iommufd, VFIO_DEVICE_BIND_IOMMUFD),
      NUMBER(ioctls::device_attach_iommufd_pt, VFIO_DEVICE_ATTACH_IOMMUFD_PT),
      NUMBER(ioctls::device_detach_iommufd_pt, VFIO_DEVICE_DETACH_IOMMUFD_PT),
#endif
#ifdef VFIO_MIG_GET_PRECOPY_INFO
      NUMBER(ioctls::mig_get_precopy_info, VFIO_MIG_GET_PRECOPY_INFO),
#endif
  });
}

TEST(Uapi, FlagsOfDevicesRegionsAndInterruptsAreTheKernels) {
  expect_equal({
      NUMBER(device_flags::reset, VFIO_DEVICE_FLAGS_RESET),
      NUMBER(device_flags::pci, VFIO_DEVICE_FLAGS_PCI),
      NUMBER(device_flags::caps, VFIO_DEVICE_FLAGS_CAPS),
      NUMBER(region_flags::read, VFIO_REGION_INFO_FLAG_READ),
      NUMBER(region_flags::write, VFIO_REGION_INFO_FLAG_WRITE),
      NUMBER(region_flags::mmap, VFIO_REGION_INFO_FLAG_MMAP),
      NUMBER(region_flags::caps, VFIO_REGION_INFO_FLAG_CAPS),
      NUMBER(region_caps::sparse_mmap, VFIO_REGION_INFO_CAP_SPARSE_MMAP),
      NUMBER(region_caps::type, VFIO_REGION_INFO_CAP_TYPE),
      NUMBER(region_caps::msix_mappable, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE),
      NUMBER(irq_flags::eventfd, VFIO_IRQ_INFO_EVENTFD),
      NUMBER(irq_flags::maskable, VFIO_IRQ_INFO_MASKABLE),
      NUMBER(irq_flags::automasked, VFIO_IRQ_INFO_AUTOMASKED),
      NUMBER(irq_flags::noresize, VFIO_IRQ_INFO_NORESIZE),
      NUMBER(irq_set_flags::data_all, VFIO_IRQ_SET_DATA_TYPE_MASK),
      NUMBER(irq_set_flags::data_none, VFIO_IRQ_SET_DATA_NONE),
      NUMBER(irq_set_flags::data_eventfd, VFIO_IRQ_SET_DATA_EVENTFD),
      NUMBER(irq_set_flags::action_all, VFIO_IRQ_SET_ACTION_TYPE_MASK),
      NUMBER(irq_set_flags::action_mask, VFIO_IRQ_SET_ACTION_MASK),
      NUMBER(irq_set_flags::action_trigger, VFIO_IRQ_SET_ACTION_TRIGGER),
      NUMBER(pci_region::config, VFIO_PCI_CONFIG_REGION_INDEX),
      NUMBER(pci_region::vga, VFIO_PCI_VGA_REGION_INDEX),
      NUMBER(pci_irq::msix, VFIO_PCI_MSIX_IRQ_INDEX),
      NUMBER(pci_irq::err, VFIO_PCI_ERR_IRQ_INDEX),
      NUMBER(pci_irq::req, VFIO_PCI_REQ_IRQ_INDEX),
      NUMBER(ioeventfd_flags::bits_8, VFIO_DEVICE_IOEVENTFD_8),
      NUMBER(ioeventfd_flags::bits_64, VFIO_DEVICE_IOEVENTFD_64),
#ifdef VFIO_PCI_HOT_RESET_FLAG_DEV_ID
      NUMBER(hot_reset_flags::dev_id, VFIO_PCI_HOT_RESET_FLAG_DEV_ID),
      NUMBER(hot_reset_flags::dev_id_owned, VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED),
      NUMBER(pci_devid_owned, VFIO_PCI_DEVID_OWNED),
      NUMBER(pci_devid_not_owned, VFIO_PCI_DEVID_NOT_OWNED),
#endif
  });
}

TEST(Uapi, FeaturesHaveTheKernelsNumbers) {
  expect_equal({
      NUMBER(feature_flags::feature_mask, VFIO_DEVICE_FEATURE_MASK),
      NUMBER(feature_flags::get, VFIO_DEVICE_FEATURE_GET),
      NUMBER(feature_flags::set, VFIO_DEVICE_FEATURE_SET),
      NUMBER(feature_flags::probe, VFIO_DEVICE_FEATURE_PROBE),
      NUMBER(features::pci_vf_token, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN),
#ifdef VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
      NUMBER(features::migration, VFIO_DEVICE_FEATURE_MIGRATION),
      NUMBER(features::mig_device_state, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE),
      NUMBER(features::low_power_entry, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY),
      NUMBER(features::low_power_entry_with_wakeup,
             VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP),
      NUMBER(features::low_power_exit, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT),
      NUMBER(features::dma_logging_start, VFIO_DEVICE_FEATURE_DMA_LOGGING_START),
      NUMBER(features::dma_logging_stop, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP),
      NUMBER(features::dma_logging_report, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT),
      NUMBER(migration_flags::stop_copy, VFIO_MIGRATION_STOP_COPY),
      NUMBER(migration_flags::p2p, VFIO_MIGRATION_P2P),
      NUMBER(device_mig_state::error, VFIO_DEVICE_STATE_ERROR),
      NUMBER(device_mig_state::running_p2p, VFIO_DEVICE_STATE_RUNNING_P2P),
#endif
#ifdef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
      NUMBER(features::mig_data_size, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE),
      NUMBER(migration_flags::pre_copy, VFIO_MIGRATION_PRE_COPY),
      NUMBER(device_mig_state::pre_copy_p2p, VFIO_DEVICE_STATE_PRE_COPY_P2P),
#endif
#ifdef VFIO_DEVICE_FEATURE_BUS_MASTER
      NUMBER(features::bus_master, VFIO_DEVICE_FEATURE_BUS_MASTER),
#endif
#ifdef VFIO_DEVICE_FEATURE_DMA_BUF
      NUMBER(features::dma_buf, VFIO_DEVICE_FEATURE_DMA_BUF),
#endif
#ifdef VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2
      NUMBER(features::mig_precopy_info_v2, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2),
      NUMBER(precopy_flags::reinit, VFIO_PRECOPY_INFO_REINIT),
#endif
  });
}

TEST(Uapi, NumbersOfGroupsAndType1AreTheKernels) {
  expect_equal({
      NUMBER(api_version, VFIO_API_VERSION),
      NUMBER(extensions::type1_iommu, VFIO_TYPE1_IOMMU),
      NUMBER(extensions::type1v2_iommu, VFIO_TYPE1v2_IOMMU),
      NUMBER(extensions::noiommu_iommu, VFIO_NOIOMMU_IOMMU),
      NUMBER(group_flags::viable, VFIO_GROUP_FLAGS_VIABLE),
      NUMBER(group_flags::container_set, VFIO_GROUP_FLAGS_CONTAINER_SET),
      NUMBER(iommu_info_flags::pgsizes, VFIO_IOMMU_INFO_PGSIZES),
      NUMBER(iommu_info_flags::caps, VFIO_IOMMU_INFO_CAPS),
      NUMBER(iommu_caps::iova_range, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE),
      NUMBER(dma_map_flags::read, VFIO_DMA_MAP_FLAG_READ),
      NUMBER(dma_map_flags::write, VFIO_DMA_MAP_FLAG_WRITE),
#ifdef VFIO_UNMAP_ALL
      NUMBER(extensions::unmap_all, VFIO_UNMAP_ALL),
      NUMBER(extensions::update_vaddr, VFIO_UPDATE_VADDR),
      NUMBER(iommu_caps::migration, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION),
      NUMBER(iommu_caps::dma_avail, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL),
      NUMBER(dma_unmap_flags::get_dirty_bitmap, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP),
      NUMBER(dma_unmap_flags::all, VFIO_DMA_UNMAP_FLAG_ALL),
      NUMBER(dirty_pages_flags::start, VFIO_IOMMU_DIRTY_PAGES_FLAG_START),
      NUMBER(dirty_pages_flags::stop, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP),
      NUMBER(dirty_pages_flags::get_bitmap, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP),
#endif
  });
}

TEST(Uapi, StructuresOfDevicesLieAsTheKernels) {
  expect_equal({
      FIELD(device_info, vfio_device_info, cap_offset),
      BYTES(region_info, vfio_region_info),
      FIELD(region_info, vfio_region_info, index),
      FIELD(region_info, vfio_region_info, cap_offset),
      FIELD(region_info, vfio_region_info, offset),
      BYTES(info_cap_header, vfio_info_cap_header),
      FIELD(info_cap_header, vfio_info_cap_header, next),
      BYTES(region_info_cap_sparse_mmap, vfio_region_info_cap_sparse_mmap),
      FIELD(region_info_cap_sparse_mmap, vfio_region_info_cap_sparse_mmap, nr_areas),
      BYTES(region_sparse_mmap_area, vfio_region_sparse_mmap_area),
      BYTES(region_info_cap_type, vfio_region_info_cap_type),
      BYTES(irq_info, vfio_irq_info),
      FIELD(irq_info, vfio_irq_info, count),
      BYTES(irq_set, vfio_irq_set),
      FIELD(irq_set, vfio_irq_set, start),
      BYTES(pci_dependent_device, vfio_pci_dependent_device),
      FIELD(pci_dependent_device, vfio_pci_dependent_device, bus),
      BYTES(pci_hot_reset_info, vfio_pci_hot_reset_info),
      BYTES(pci_hot_reset, vfio_pci_hot_reset),
      BYTES(device_ioeventfd, vfio_device_ioeventfd),
      FIELD(device_ioeventfd, vfio_device_ioeventfd, data),
      FIELD(device_ioeventfd, vfio_device_ioeventfd, fd),
      BYTES(device_feature, vfio_device_feature),
#ifdef VFIO_DEVICE_ATTACH_PASID
      BYTES(device_attach_iommufd_pt, vfio_device_attach_iommufd_pt),
      FIELD(device_attach_iommufd_pt, vfio_device_attach_iommufd_pt, pasid),
      BYTES(device_detach_iommufd_pt, vfio_device_detach_iommufd_pt),
#elif defined(VFIO_DEVICE_BIND_IOMMUFD)
      row{"attach", attach_iommufd_pt_bytes_min, sizeof(vfio_device_attach_iommufd_pt)},
      row{"detach", detach_iommufd_pt_bytes_min, sizeof(vfio_device_detach_iommufd_pt)},
      FIELD(device_attach_iommufd_pt, vfio_device_attach_iommufd_pt, pt_id),
#endif
#ifdef VFIO_DEVICE_BIND_FLAG_TOKEN
      BYTES(device_bind_iommufd, vfio_device_bind_iommufd),
      FIELD(device_bind_iommufd, vfio_device_bind_iommufd, token_uuid_ptr),
#elif defined(VFIO_DEVICE_BIND_IOMMUFD)
      row{"bind", bind_iommufd_bytes_min, sizeof(vfio_device_bind_iommufd)},
      FIELD(device_bind_iommufd, vfio_device_bind_iommufd, out_devid),
#endif
  });
}

TEST(Uapi, StructuresOfFeaturesLieAsTheKernels) {
  expect_equal({
#ifdef VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
      BYTES(device_feature_migration, vfio_device_feature_migration),
      BYTES(device_feature_mig_state, vfio_device_feature_mig_state),
      FIELD(device_feature_mig_state, vfio_device_feature_mig_state, data_fd),
      BYTES(device_low_power_entry_with_wakeup, vfio_device_low_power_entry_with_wakeup),
      BYTES(device_feature_dma_logging_control, vfio_device_feature_dma_logging_control),
      FIELD(device_feature_dma_logging_control, vfio_device_feature_dma_logging_control, ranges),
      BYTES(device_feature_dma_logging_range, vfio_device_feature_dma_logging_range),
      BYTES(device_feature_dma_logging_report, vfio_device_feature_dma_logging_report),
      FIELD(device_feature_dma_logging_report, vfio_device_feature_dma_logging_report, bitmap),
#endif
#ifdef VFIO_MIG_GET_PRECOPY_INFO
      BYTES(precopy_info, vfio_precopy_info),
      FIELD(precopy_info, vfio_precopy_info, dirty_bytes),
#endif
#ifdef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
      BYTES(device_feature_mig_data_size, vfio_device_feature_mig_data_size),
#endif
#ifdef VFIO_DEVICE_FEATURE_BUS_MASTER
      BYTES(device_feature_bus_master, vfio_device_feature_bus_master),
#endif
#ifdef VFIO_DEVICE_FEATURE_DMA_BUF
      BYTES(region_dma_range, vfio_region_dma_range),
      BYTES(device_feature_dma_buf, vfio_device_feature_dma_buf),
      FIELD(device_feature_dma_buf, vfio_device_feature_dma_buf, nr_ranges),
#endif
  });
}

TEST(Uapi, StructuresOfType1LieAsTheKernels) {
  expect_equal({
      BYTES(group_status, vfio_group_status),
      FIELD(iommu_type1_info, vfio_iommu_type1_info, cap_offset),
      FIELD(iommu_type1_info, vfio_iommu_type1_info, iova_pgsizes),
      BYTES(iommu_type1_info_cap_iova_range, vfio_iommu_type1_info_cap_iova_range),
      FIELD(iommu_type1_info_cap_iova_range, vfio_iommu_type1_info_cap_iova_range, nr_iovas),
      BYTES(type1_iova_range, vfio_iova_range),
      BYTES(iommu_type1_dma_map, vfio_iommu_type1_dma_map),
      FIELD(iommu_type1_dma_map, vfio_iommu_type1_dma_map, vaddr),
      FIELD(iommu_type1_dma_map, vfio_iommu_type1_dma_map, iova),
      BYTES(iommu_type1_dma_unmap, vfio_iommu_type1_dma_unmap),
      FIELD(iommu_type1_dma_unmap, vfio_iommu_type1_dma_unmap, size),
#ifdef VFIO_UNMAP_ALL
      BYTES(iommu_type1_info_cap_migration, vfio_iommu_type1_info_cap_migration),
      FIELD(iommu_type1_info_cap_migration, vfio_iommu_type1_info_cap_migration, pgsize_bitmap),
      BYTES(iommu_type1_info_dma_avail, vfio_iommu_type1_info_dma_avail),
      BYTES(dirty_bitmap, vfio_bitmap),
      BYTES(iommu_type1_dirty_bitmap, vfio_iommu_type1_dirty_bitmap),
      BYTES(iommu_type1_dirty_bitmap_get, vfio_iommu_type1_dirty_bitmap_get),
#endif
  });
}

#if __has_include(<linux/iommufd.h>)
TEST(Uapi, NumbersOfIommufdAreTheKernels) {
  namespace ours = iommufd;
  expect_equal({
      NUMBER(ours::ioctls::destroy, IOMMU_DESTROY),
      NUMBER(ours::ioctls::ioas_alloc, IOMMU_IOAS_ALLOC),
      NUMBER(ours::ioctls::ioas_allow_iovas, IOMMU_IOAS_ALLOW_IOVAS),
      NUMBER(ours::ioctls::ioas_copy, IOMMU_IOAS_COPY),
      NUMBER(ours::ioctls::ioas_iova_ranges, IOMMU_IOAS_IOVA_RANGES),
      NUMBER(ours::ioctls::ioas_map, IOMMU_IOAS_MAP),
      NUMBER(ours::ioctls::ioas_unmap, IOMMU_IOAS_UNMAP),
      NUMBER(ours::ioctls::option, IOMMU_OPTION),
      NUMBER(ours::ioctls::vfio_ioas, IOMMU_VFIO_IOAS),
      NUMBER(ours::map_flags::fixed_iova, IOMMU_IOAS_MAP_FIXED_IOVA),
      NUMBER(ours::map_flags::writeable, IOMMU_IOAS_MAP_WRITEABLE),
      NUMBER(ours::map_flags::readable, IOMMU_IOAS_MAP_READABLE),
      NUMBER(ours::options::rlimit_mode, IOMMU_OPTION_RLIMIT_MODE),
      NUMBER(ours::options::huge_pages, IOMMU_OPTION_HUGE_PAGES),
      NUMBER(ours::options::op_get, IOMMU_OPTION_OP_GET),
      NUMBER(ours::vfio_ioas_ops::clear, IOMMU_VFIO_IOAS_CLEAR),
#ifdef IOMMU_HWPT_ALLOC
      NUMBER(ours::ioctls::hwpt_alloc, IOMMU_HWPT_ALLOC),
      NUMBER(ours::ioctls::get_hw_info, IOMMU_GET_HW_INFO),
#endif
#ifdef IOMMU_HWPT_GET_DIRTY_BITMAP
      NUMBER(ours::ioctls::hwpt_set_dirty_tracking, IOMMU_HWPT_SET_DIRTY_TRACKING),
      NUMBER(ours::ioctls::hwpt_get_dirty_bitmap, IOMMU_HWPT_GET_DIRTY_BITMAP),
      NUMBER(ours::hwpt_flags::dirty_tracking, IOMMU_HWPT_ALLOC_DIRTY_TRACKING),
      NUMBER(ours::hw_caps::dirty_tracking, IOMMU_HW_CAP_DIRTY_TRACKING),
#endif
#ifdef IOMMU_IOAS_MAP_FILE
      NUMBER(ours::ioctls::ioas_map_file, IOMMU_IOAS_MAP_FILE),
#endif
  });
}

TEST(Uapi, StructuresOfIommufdLieAsTheKernels) {
  namespace ours = iommufd;
  expect_equal({
      BYTES(ours::destroy, iommu_destroy),
      BYTES(ours::ioas_alloc, iommu_ioas_alloc),
      BYTES(ours::iova_range, iommu_iova_range),
      BYTES(ours::ioas_iova_ranges, iommu_ioas_iova_ranges),
      FIELD(ours::ioas_iova_ranges, iommu_ioas_iova_ranges, allowed_iovas),
      BYTES(ours::ioas_allow_iovas, iommu_ioas_allow_iovas),
      BYTES(ours::ioas_map, iommu_ioas_map),
      FIELD(ours::ioas_map, iommu_ioas_map, user_va),
      FIELD(ours::ioas_map, iommu_ioas_map, iova),
      BYTES(ours::ioas_copy, iommu_ioas_copy),
      BYTES(ours::ioas_unmap, iommu_ioas_unmap),
      FIELD(ours::ioas_unmap, iommu_ioas_unmap, length),
      BYTES(ours::option, iommu_option),
      FIELD(ours::option, iommu_option, object_id),
      BYTES(ours::vfio_ioas, iommu_vfio_ioas),
#ifdef IOMMU_HWPT_ALLOC
      FIELD(ours::hwpt_alloc, iommu_hwpt_alloc, out_hwpt_id),
      FIELD(ours::hwpt_alloc, iommu_hwpt_alloc, data_uptr),
      FIELD(ours::hw_info, iommu_hw_info, out_data_type),
#endif
#ifdef IOMMU_HWPT_GET_DIRTY_BITMAP
      BYTES(ours::hw_info, iommu_hw_info),
      BYTES(ours::hwpt_set_dirty_tracking, iommu_hwpt_set_dirty_tracking),
      BYTES(ours::hwpt_get_dirty_bitmap, iommu_hwpt_get_dirty_bitmap),
#endif
#ifdef IOMMU_IOAS_MAP_FILE
      BYTES(ours::hwpt_alloc, iommu_hwpt_alloc),
      BYTES(ours::ioas_map_file, iommu_ioas_map_file),
      FIELD(ours::ioas_map_file, iommu_ioas_map_file, fd),
#endif
  });
}
#endif

}  // namespace
}  // namespace runnel::vfio::uapi
