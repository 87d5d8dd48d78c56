#pragma once

#include <cstddef>
#include <cstdint>

#include "drivers/vfio/uapi/vfio.h"

// What a device's own node (/dev/vfio/devices/vfioN, since 6.6) has instead of a group: it is bound
// to an iommufd and attached to what translates there. Structures grew; who does not use a new
// field sends the size from before, because older kernels refuse what they do not know.
// @spec Linux 7.2 include/uapi/linux/vfio.h
namespace runnel::vfio::uapi {

/// VFIO_*: of a device's descriptor; the last one of a migration's data.
namespace ioctls {
inline constexpr unsigned long device_bind_iommufd = vfio_ioctl(18);
inline constexpr unsigned long device_attach_iommufd_pt = vfio_ioctl(19);
inline constexpr unsigned long device_detach_iommufd_pt = vfio_ioctl(20);
inline constexpr unsigned long mig_get_precopy_info = vfio_ioctl(21);
}  // namespace ioctls

/// VFIO_DEVICE_BIND_FLAG_TOKEN, since 6.17
inline constexpr std::uint32_t bind_flag_token = 1U << 0;

/// struct vfio_device_bind_iommufd
struct device_bind_iommufd {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::int32_t iommufd;
  std::uint32_t out_devid;
  std::uint64_t token_uuid_ptr;  // since 6.17
};
static_assert(sizeof(device_bind_iommufd) == 24);
static_assert(offsetof(device_bind_iommufd, out_devid) == 12);
inline constexpr std::uint32_t bind_iommufd_bytes_min =
    offsetof(device_bind_iommufd, token_uuid_ptr);

/// VFIO_DEVICE_ATTACH_PASID and VFIO_DEVICE_DETACH_PASID, since 6.15
inline constexpr std::uint32_t attach_pasid = 1U << 0;
inline constexpr std::uint32_t detach_pasid = 1U << 0;

/// struct vfio_device_attach_iommufd_pt
struct device_attach_iommufd_pt {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t pt_id;  // in: of an IOAS or HWPT; out: of the HWPT that translates now
  std::uint32_t pasid;  // since 6.15
};
static_assert(sizeof(device_attach_iommufd_pt) == 16);
inline constexpr std::uint32_t attach_iommufd_pt_bytes_min =
    offsetof(device_attach_iommufd_pt, pasid);

/// struct vfio_device_detach_iommufd_pt
struct device_detach_iommufd_pt {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t pasid;  // since 6.15
};
static_assert(sizeof(device_detach_iommufd_pt) == 12);
inline constexpr std::uint32_t detach_iommufd_pt_bytes_min =
    offsetof(device_detach_iommufd_pt, pasid);

}  // namespace runnel::vfio::uapi
