# Private subnets; storage, vault, registry and database have addresses inside them and none outside.

resource "azurerm_virtual_network" "this" {
  name                = var.name
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  address_space       = [var.network_cidr]
  tags                = local.labels
}

resource "azurerm_subnet" "nodes" {
  name                            = "nodes"
  resource_group_name             = azurerm_resource_group.this.name
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [cidrsubnet(var.network_cidr, 4, 0)]
  default_outbound_access_enabled = false
}

resource "azurerm_subnet" "endpoints" {
  name                            = "endpoints"
  resource_group_name             = azurerm_resource_group.this.name
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [cidrsubnet(var.network_cidr, 8, 16)]
  default_outbound_access_enabled = false
}

resource "azurerm_subnet" "database" {
  name                            = "database"
  resource_group_name             = azurerm_resource_group.this.name
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [cidrsubnet(var.network_cidr, 8, 17)]
  default_outbound_access_enabled = false
  delegation {
    name = "postgres"
    service_delegation {
      name    = "Microsoft.DBforPostgreSQL/flexibleServers"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

# The cluster's API from the hospital's own networks, the nodes among themselves, and nothing else.
resource "azurerm_network_security_group" "nodes" {
  name                = "${var.name}-nodes"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.labels
  security_rule {
    name                       = "operators"
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_port_range          = "*"
    destination_port_range     = "443"
    source_address_prefixes    = var.operator_cidrs
    destination_address_prefix = "*"
  }
  security_rule {
    name                       = "no-internet"
    priority                   = 4096
    direction                  = "Outbound"
    access                     = "Deny"
    protocol                   = "*"
    source_port_range          = "*"
    destination_port_range     = "*"
    source_address_prefix      = "*"
    destination_address_prefix = "Internet"
  }
}

resource "azurerm_subnet_network_security_group_association" "nodes" {
  subnet_id                 = azurerm_subnet.nodes.id
  network_security_group_id = azurerm_network_security_group.nodes.id
}

locals {
  private_services = {
    blob     = { zone = "privatelink.blob.core.windows.net", resource = azurerm_storage_account.data.id }
    dfs      = { zone = "privatelink.dfs.core.windows.net", resource = azurerm_storage_account.data.id }
    file     = { zone = "privatelink.file.core.windows.net", resource = azurerm_storage_account.shared.id }
    vault    = { zone = "privatelink.vaultcore.azure.net", resource = azurerm_key_vault.this.id }
    registry = { zone = "privatelink.azurecr.io", resource = azurerm_container_registry.this.id }
  }
}

resource "azurerm_private_dns_zone" "this" {
  for_each = merge({ for name, one in local.private_services : name => one.zone }, {
    postgres = "${var.name}.private.postgres.database.azure.com"
    cluster  = "privatelink.${var.region}.azmk8s.io"
  })
  name                = each.value
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.labels
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  for_each              = azurerm_private_dns_zone.this
  name                  = var.name
  resource_group_name   = azurerm_resource_group.this.name
  private_dns_zone_name = each.value.name
  virtual_network_id    = azurerm_virtual_network.this.id
}

resource "azurerm_private_endpoint" "this" {
  for_each            = local.private_services
  name                = "${var.name}-${each.key}"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  subnet_id           = azurerm_subnet.endpoints.id
  tags                = local.labels
  private_service_connection {
    name                           = each.key
    private_connection_resource_id = each.value.resource
    subresource_names              = [each.key]
    is_manual_connection           = false
  }
  private_dns_zone_group {
    name                 = "default"
    private_dns_zone_ids = [azurerm_private_dns_zone.this[each.key].id]
  }
}
