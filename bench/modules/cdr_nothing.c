/*
 * cdr_nothing: an empty CDR backend, for measurements only.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The baseline of a call's cost: any backend for call records causes this work in Asterisk itself.
 */

/*** MODULEINFO
	<support_level>extended</support_level>
 ***/

#include "asterisk.h"

#include "asterisk/cdr.h"
#include "asterisk/module.h"

#define CDR_NAME "Nothing"

static int cdr_log(struct ast_cdr *cdr)
{
	return 0;
}

static int unload_module(void)
{
	return ast_cdr_unregister(CDR_NAME);
}

static int load_module(void)
{
	return ast_cdr_register(CDR_NAME, ast_module_info->description, cdr_log) ? AST_MODULE_LOAD_DECLINE : AST_MODULE_LOAD_SUCCESS;
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_LOAD_ORDER, "CDR backend that does nothing",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
	.load_pri = AST_MODPRI_CDR_DRIVER,
	.requires = "cdr",
);
