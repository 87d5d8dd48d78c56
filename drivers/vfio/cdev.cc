#include "drivers/vfio/cdev.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "drivers/vfio/open_hint.h"
#include "drivers/vfio/uapi/cdev.h"

namespace runnel::vfio {
namespace {

[[nodiscard]] std::string bind_hint(error what, bool has_token) {
  switch (what.code == errc::os ? static_cast<int>(what.detail) : 0) {
    case EBUSY:
      return "it is open already, by its group";
    case EACCES:
      return "it is a virtual function, and its physical function has another token";
    case EPERM:
      return iommu_hint(what);
    case EINVAL:
      return has_token ? "this kernel takes no token by a node: use its group"
                       : "it is open already, by this node";
    default:
      return {};
  }
}

/// Binds the device to the iommufd, which resets it, and has it translated. Holds both files.
class cdev_opening final : public device_opening {
 public:
  cdev_opening(syscalls& system, kernel_fd node, kernel_fd iommufd, std::uint32_t ioas)
      : system_{&system}, node_{std::move(node)}, iommufd_{std::move(iommufd)}, ioas_{ioas} {}

  std::string object;
  std::optional<std::array<std::byte, 16>> token;

  [[nodiscard]] outcome<kernel_fd> open() override {
    // Who has no token sends the structure that kernels before tokens know.
    uapi::device_bind_iommufd bind{
        .argsz = token ? std::uint32_t{sizeof(bind)} : uapi::bind_iommufd_bytes_min,
        .flags = token ? uapi::bind_flag_token : 0,
        .iommufd = iommufd_.get(),
        .out_devid = 0,
        .token_uuid_ptr = token ? reinterpret_cast<std::uintptr_t>(token->data()) : 0};
    if (const auto bound = ioctl_on(*system_, node_.get(), uapi::ioctls::device_bind_iommufd, bind);
        !bound) {
      return fail(bound.error(), "open", object, bind_hint(bound.error(), token.has_value()));
    }
    uapi::device_attach_iommufd_pt attach{
        .argsz = uapi::attach_iommufd_pt_bytes_min, .flags = 0, .pt_id = ioas_, .pasid = 0};
    if (const auto attached =
            ioctl_on(*system_, node_.get(), uapi::ioctls::device_attach_iommufd_pt, attach);
        !attached) {
      const bool in_the_way = attached.error() == error{errc::os, EADDRINUSE};
      return fail(attached.error(), "translate for", object,
                  in_the_way ? "it reaches less than what others have mapped already: name it first"
                             : iommu_hint(attached.error()));
    }
    iommufd_.reset();
    return std::move(node_);
  }

 private:
  syscalls* system_;
  kernel_fd node_;
  kernel_fd iommufd_;
  std::uint32_t ioas_;
};

}  // namespace

cdev_opener::cdev_opener(syscalls& system, ioas_domain& domain, cdev_device device)
    : system_{&system},
      domain_{&domain},
      share_{domain},
      device_{std::move(device)},
      object_{"pci:" + device_.address} {}

outcome<std::unique_ptr<device_opening>> cdev_opener::prepare() {
  auto node = system_->open(device_.node.c_str(), O_RDWR);
  if (!node) {
    return fail(node.error(), "open", object_,
                open_hint(node.error(), device_.node, device_.address));
  }
  auto iommufd = system_->duplicate(domain_->iommufd());
  if (!iommufd) {
    return fail(iommufd.error(), "open", object_, "raise the limit of open files: `ulimit -n`");
  }
  auto opening = std::make_unique<cdev_opening>(*system_, std::move(*node), std::move(*iommufd),
                                                domain_->ioas());
  opening->object = object_;
  opening->token = device_.token;
  return opening;
}

}  // namespace runnel::vfio
